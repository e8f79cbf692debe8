"""A model of our own on the disk: its tensors, and in ``cosp.json`` all that using it takes beside them.

Every run ends with one, ``RUN/model``; what is exported has the same ``cosp.json`` beside it or in it.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from cosp.errors import UserError
from cosp.models import TransformerShape, shape_from_json, shape_to_json
from cosp.submodel.plan import SubmodelPlan
from cosp.submodel.slicing import State

MODEL, FACTS, WEIGHTS, BOARDS, TOKENIZER = "model", "cosp.json", "model.safetensors", "boards.json", "tokenizer.json"
FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class ExitScores:
    """How good the exit after block ``after`` is: on test data, and on the validation data that choose an exit."""

    after: int
    accuracy: float
    macro_f1: float
    loss: float | None  # None: NaN or infinite
    validation_accuracy: float


@dataclass(frozen=True, kw_only=True)
class Reading:
    """From raw samples to those that the model reads.

    Images and series are shifted by ``mean`` and divided by ``std``, a value a channel, in the units of the training
    data, where a white pixel is ``white``. ``words`` says that a tokenizer makes texts into word numbers. ``columns``:
    which of a table hold what, by the keys of ``data`` that say so.
    """

    kind: str
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    white: float | None = None
    words: bool = False
    columns: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Likeness:
    """The pretrained family that a model began as, and what its files have that ours have not."""

    family: str
    first: int = 0
    segments: int = 0


@dataclass(frozen=True, kw_only=True)
class Facts:
    """``plan`` is the part of the tensors that is the method's result; exits are named by the block they stand after.

    ``chosen_exit`` is the one that did best on validation data.
    """

    name: str
    method: str
    seed: int
    version: int
    data: str
    samples: Mapping[str, int]
    shape: TransformerShape
    plan: SubmodelPlan
    classes: tuple[str, ...]
    chosen_exit: int
    scores: tuple[ExitScores, ...]
    reading: Reading
    likeness: Likeness | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    exported: Mapping[str, Any] = field(default_factory=dict)
    """What an export holds: its format, the block its exits end with, whose submodel it is."""
    adapted: int | None = None
    """Which set of a stream it is, if boards were adapted since it was trained."""

    @property
    def exits(self) -> tuple[int, ...]:
        return self.shape.exits_within(self.plan.depth)

    def as_json(self) -> dict[str, Any]:
        whole = self.plan == self.shape.full_plan()
        plan = None if whole else _packed(self.plan, self.shape)
        flat = {
            name: value
            for name, value in vars(self).items()
            if name not in ("shape", "plan", "scores", "reading", "likeness", "adapted")
        }
        if self.adapted is not None:  # an older cosp reads all others
            flat["adapted"] = self.adapted
        return {
            "format": FORMAT,
            **flat,
            "shape": shape_to_json(self.shape),
            "plan": plan,
            "exits": list(self.exits),
            "scores": [asdict(score) for score in self.scores],
            "reading": asdict(self.reading),
            "likeness": None if self.likeness is None else asdict(self.likeness),
        }

    @staticmethod
    def from_json(values: Mapping[str, Any], *, origin: str) -> Facts:
        """Undo :meth:`as_json`; UserError if ``values``, read from ``origin``, are none of ours."""
        try:
            return _facts(dict(values))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(f"{origin}: is no description of a model by this cosp ({error!r})") from None


@dataclass(frozen=True, kw_only=True)
class BoardPlan:
    """Which part of the model a board would train next; ``plan`` None: it has to score its units first, or sits out."""

    client: int
    board: str
    plan: SubmodelPlan | None


def own_folder(path: Path) -> Path | None:
    """Return the folder that holds the model of a run or is itself such a folder; None if there is none."""
    for folder in (path / MODEL, path):
        if (folder / FACTS).is_file() and (folder / WEIGHTS).is_file() and not (folder / "config.json").exists():
            return folder
    return None


def final_model(path: Path) -> Path:
    """Return the folder of a run's model; UserError says how to get one."""
    found = own_folder(path)
    if found is not None:
        return found
    if not path.exists():
        raise UserError(f"{path}: is not there; give the directory of a run")
    if not (path / "config.yaml").is_file():
        raise UserError(f"{path}: holds no run (no config.yaml); give the directory of a run")
    several = sorted(one.parent.name for one in path.glob(f"{MODEL}-*/{FACTS}"))
    if several:
        raise UserError(
            f"{path}: holds a model for each set that boards have, {', '.join(several)}: give one, "
            f"{path / several[0]}; metrics.json says whose each is"
        )
    raise UserError(
        f"{path}: holds no {MODEL}/: it is a dry run, has not ended, or ended under an older cosp; cosp run --resume "
        f"{path} goes on from its last checkpoint and writes it (not of a dry run)"
    )


def read_facts(path: Path) -> Facts:
    """Return what a ``cosp.json`` says; UserError if it cannot be read."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from None
    return Facts.from_json(values, origin=str(path))


def read_state(folder: Path) -> State:
    """Return the tensors of a model of our own; UserError if they cannot be read."""
    path = folder / WEIGHTS
    try:
        from safetensors.torch import load_file  # here, as it imports torch

        return load_file(path)
    except Exception as error:  # a damaged file makes its reader raise anything
        raise UserError(f"{path}: cannot be read ({str(error).splitlines()[0][:200]})") from None


def boards_json(boards: Sequence[BoardPlan], shape: TransformerShape) -> str:
    """Return ``boards.json``, one line a board: its plan takes a bit a unit."""
    packed = {plan: _packed(plan, shape) for plan in {board.plan for board in boards} if plan is not None}
    lines = [
        json.dumps({**vars(board), "plan": None if board.plan is None else packed[board.plan]}) for board in boards
    ]
    return "[\n" + ",\n".join(lines) + "\n]\n"


def read_boards(folder: Path, shape: TransformerShape) -> dict[int, BoardPlan]:
    """Return the boards of the run that a model is of, by client; UserError if they cannot be read."""
    path = folder / BOARDS
    try:
        found = [BoardPlan(**board) for board in json.loads(path.read_text(encoding="utf-8"))]
        texts = {str(board.plan) for board in found if board.plan is not None}
        plans = {text: _unpacked(text, shape) for text in texts}  # boards that hold the same share it
        return {
            board.client: replace(board, plan=None if board.plan is None else plans[str(board.plan)]) for board in found
        }
    except (OSError, TypeError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from None


def _facts(values: dict[str, Any]) -> Facts:
    if values.pop("format") != FORMAT:
        raise ValueError("another format")
    del values["exits"]
    shape = shape_from_json(values.pop("shape"))
    plan, likeness = values.pop("plan"), values.pop("likeness")
    reading = values.pop("reading")
    return Facts(
        shape=shape,
        plan=shape.full_plan() if plan is None else _unpacked(plan, shape),
        scores=tuple(ExitScores(**score) for score in values.pop("scores")),
        classes=tuple(values.pop("classes")),
        reading=Reading(**{**reading, "mean": tuple(reading["mean"]), "std": tuple(reading["std"])}),
        likeness=None if likeness is None else Likeness(**likeness),
        **values,
    )


def _packed(plan: SubmodelPlan, shape: TransformerShape) -> str:
    return base64.b64encode(plan.to_bytes(shape.sizes)).decode("ascii")


def _unpacked(text: str, shape: TransformerShape) -> SubmodelPlan:
    return SubmodelPlan.from_bytes(base64.b64decode(text), shape.sizes)
