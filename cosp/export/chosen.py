"""What of a run is exported: up to which exit, and whose part of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cosp.checkpoints.own import Facts, final_model, read_boards, read_facts, read_state
from cosp.errors import UserError
from cosp.models.transformer import Transformer
from cosp.submodel.plan import SubmodelPlan
from cosp.submodel.shape import layout_of
from cosp.submodel.slicing import State, extract

INPUT_NAMES = {"images": "pixel_values", "texts": "input_ids", "series": "series"}


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """``state`` are the tensors of ``facts.plan`` alone, and ``facts.shape`` ends with the last exit that is exported.

    ``run`` and ``board`` say where they are from.
    """

    run: Path
    facts: Facts
    state: State
    board: str | None = None
    client: int | None = None

    @property
    def last_exit(self) -> int:
        return self.facts.exits[-1]

    @property
    def is_whole(self) -> bool:
        """Tell whether no unit of any block is missing."""
        return self.facts.plan == self.facts.shape.full_plan()

    @property
    def input_name(self) -> str:
        return INPUT_NAMES[self.facts.reading.kind]

    @property
    def output_names(self) -> list[str]:
        return [f"exit_{after}" for after in self.facts.exits]

    def module(self) -> Transformer:
        """Return the model, as narrow as it is."""
        return narrow_model(self.facts, self.state)


class Logits(nn.Module):
    """The logits of every exit as a tuple, for exporters: shallow to deep."""

    def __init__(self, model: Transformer) -> None:
        super().__init__()
        self.model = model

    def forward(self, samples: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.model(samples))


def narrow_model(facts: Facts, state: Mapping[str, Tensor]) -> Transformer:
    """Return the model of ``facts`` with the tensors of its plan."""
    with torch.device("meta"):
        model = Transformer(facts.shape, facts.plan)
    model.load_state_dict(dict(state), assign=True)
    return model.requires_grad_(False).eval()


def choose(run: Path, *, after: int | None, board: int | None, one_exit: bool = False) -> Chosen:
    """Return what is exported of a run's final model: its chosen exit and those before it; UserError if there is none.

    ``after`` takes the exit behind that block alone, ``one_exit`` the last one alone. ``board`` takes the submodel that
    this client would train next, which ends with its deepest exit if that is before the chosen one.
    """
    folder = final_model(run)
    facts = read_facts(folder / "cosp.json")
    plan, name = (facts.plan, None) if board is None else _board_s(folder, facts, board)
    exits = facts.shape.exits_within(plan.depth)
    if after is not None and after not in exits:
        whose = "" if board is None else f" of client {board}'s submodel"
        raise UserError(
            f"--exit {after}: there is no exit behind block {after}{whose}; exits stand behind blocks "
            f"{', '.join(map(str, exits))}"
        )
    last = after or (facts.chosen_exit if facts.chosen_exit in exits else exits[-1])
    kept = (last,) if after is not None or one_exit else tuple(e for e in exits if e <= last)
    state = extract(read_state(folder), layout_of(facts.shape), plan)
    return Chosen(
        run=run,
        facts=_cut_facts(facts, plan, kept),
        state=_cut_state(state, facts.shape.exits, kept),
        board=name,
        client=board,
    )


def _board_s(folder: Path, facts: Facts, client: int) -> tuple[SubmodelPlan, str]:
    boards = read_boards(folder, facts.shape)
    if client not in boards:
        raise UserError(f"--board {client}: there is no such client; the run has {min(boards)}..{max(boards)}")
    found = boards[client]
    if found.plan is None:
        raise UserError(
            f"--board {client}: {found.board} has no submodel at the run's end: it took no part, could hold none, or "
            "had not scored its units; give another"
        )
    return found.plan, found.board


def _cut_facts(facts: Facts, plan: SubmodelPlan, kept: tuple[int, ...]) -> Facts:
    last = kept[-1]
    shape: Any = facts.shape
    return replace(
        facts,
        shape=replace(shape, blocks=last, exits=kept),
        plan=SubmodelPlan(plan.blocks[:last]),
        chosen_exit=last,
        scores=tuple(score for score in facts.scores if score.after in kept),
    )


def _cut_state(state: State, exits: tuple[int, ...], kept: tuple[int, ...]) -> State:
    """Return the tensors up to the last exit that is kept, exits counted anew."""
    found: State = {}
    for name, tensor in state.items():
        part, number, *rest = name.split(".") if "." in name else (name, "")
        if part == "blocks" and int(number) >= kept[-1]:
            continue
        if part == "exits":
            if exits[int(number)] not in kept:
                continue
            name = ".".join((part, str(kept.index(exits[int(number)])), *rest))
        found[name] = tensor
    return found
