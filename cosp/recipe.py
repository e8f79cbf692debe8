"""How samples were made that a model trains on: a board's store must be made as the server's data were.

Labels are numbers, pixels are shifted and scaled: neither says of itself which class it is or by how much. So the
server writes down what it did, stores are made by it and hold it, and the two are compared before a board takes part.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Mapping, Optional, Tuple

from cosp.errors import DataError

FILE = "recipe.json"
NEAR = 0.01
"""Share of a deviation by which means and deviations may differ: nobody's samples look other for that."""
KINDS = {3: "images", 2: "series", 1: "texts"}
"""By how many dimensions a sample has."""


@dataclass(frozen=True)
class Recipe:
    """``sample_shape`` is (C, H, W), (T, C) or (T,); ``mean`` and ``std`` have C values in the source's units, None
    where they are not known. ``white``: what a white pixel is in these units. ``tokenizer``: the mark of the one that
    made the words, of which there are ``vocabulary``. ``local_test``: the share of its samples that a board holds back.
    """

    classes: Tuple[str, ...]
    sample_shape: Tuple[int, ...]
    mean: Optional[Tuple[float, ...]] = None
    std: Optional[Tuple[float, ...]] = None
    white: Optional[float] = None
    tokenizer: Optional[str] = None
    vocabulary: Optional[int] = None
    local_test: float = 0.2
    seed: int = 0
    data: str = ""

    @property
    def kind(self) -> str:
        return KINDS.get(len(self.sample_shape), "samples")

    @property
    def mark(self) -> str:
        """A short mark of all that changes what is learned: equal for stores that are made alike."""
        told = (self.classes, self.sample_shape, self.mean, self.std, self.tokenizer, self.vocabulary)
        return mark_of(json.dumps(told))

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1) + "\n"


def recipe_from(text: str) -> Recipe:
    """Undo ``Recipe.to_json``; ValueError if it is none."""
    told = json.loads(text)
    if not isinstance(told, dict):
        raise ValueError("must be an object")
    unknown = sorted(set(told) - {field.name for field in fields(Recipe)})
    if unknown:
        raise ValueError(f"{unknown[0]}: is no key of a recipe; board and server need the same cosp")
    given: Mapping[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in told.items()}
    try:
        recipe = Recipe(**given)
    except TypeError as error:
        raise ValueError(str(error)) from None
    _check(recipe)
    return recipe


def read_recipe(path: Path) -> Recipe:
    """Return the recipe in a file; DataError names it if it holds none."""
    try:
        return recipe_from(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: is no recipe ({error}); get one from the server: cosp server recipe CONFIG") from None


def mark_of(text: str) -> str:
    """Return a short mark of a text, such as a tokenizer's: the same for the same text alone."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def difference(run: Recipe, board: Recipe) -> Optional[str]:
    """Say in which thing that changes what is learned the board's samples were made otherwise; None if in none.

    What a side does not know (None) is not compared.
    """
    return (
        _classes(run.classes, board.classes)
        or _shapes(run, board)
        or _scaling(run, board)
        or _known("words", run.vocabulary, board.vocabulary)
        or _known("tokenizer", run.tokenizer, board.tokenizer)
    )


def _classes(run: Tuple[str, ...], board: Tuple[str, ...]) -> Optional[str]:
    if run == board:
        return None
    if sorted(run) == sorted(board):
        number = next(i for i, (one, other) in enumerate(zip(run, board)) if one != other)
        return f"classes: the run's in another order: {number} is {run[number]!r}, at the board {board[number]!r}"
    if len(run) != len(board):
        return f"classes: the task has {len(run)} classes, the board's data {len(board)}"
    strange = [name for name in board if name not in run]
    return f"classes: {strange[0] if strange else board[0]!r} is none of the run's"


def _shapes(run: Recipe, board: Recipe) -> Optional[str]:
    if run.sample_shape == board.sample_shape:
        return None
    return f"samples: the run's are {run.kind} {run.sample_shape}, the board's {board.kind} {board.sample_shape}"


def _scaling(run: Recipe, board: Recipe) -> Optional[str]:
    if not (run.mean and run.std and board.mean and board.std):
        return None
    numbers = range(min(map(len, (run.mean, run.std, board.mean, board.std))))
    for i in numbers:
        room = NEAR * run.std[i]
        if abs(run.mean[i] - board.mean[i]) > room or abs(run.std[i] - board.std[i]) > room:
            return (
                f"normalisation: channel {i} has mean {run.mean[i]:.4g} and deviation {run.std[i]:.4g} in the run, "
                f"{board.mean[i]:.4g} and {board.std[i]:.4g} at the board"
            )
    return None


def _known(what: str, run: Any, board: Any) -> Optional[str]:
    return None if run is None or board is None or run == board else f"{what}: {run} in the run, {board} at the board"


def _check(recipe: Recipe) -> None:
    """ValueError names a value that is none of a recipe's."""
    shape, classes = recipe.sample_shape, recipe.classes
    scaling = [values for values in (recipe.mean, recipe.std) if values is not None]
    rules = {
        "classes": isinstance(classes, tuple) and bool(classes) and all(isinstance(name, str) for name in classes),
        "sample_shape": isinstance(shape, tuple) and len(shape) in KINDS and all(_whole(size) for size in shape),
        "mean and std": all(isinstance(values, tuple) and all(map(_number, values)) for values in scaling),
        "white": recipe.white is None or _number(recipe.white),
        "local_test": _number(recipe.local_test) and 0 < recipe.local_test < 1,
        "seed": isinstance(recipe.seed, int),
    }
    wrong = [name for name, kept in rules.items() if not kept]
    if wrong:
        raise ValueError(f"{wrong[0]}: is not as a recipe's must be")


def _whole(value: object) -> bool:
    return isinstance(value, int) and value > 0


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
