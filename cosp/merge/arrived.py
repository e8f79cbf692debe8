"""The updates of a round side by side, a piece of the model at a time: what robust merges look at."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch

from cosp.submodel.layout import Layout
from cosp.submodel.plan import SubmodelPlan
from cosp.submodel.slicing import Indices, State, grid, kept_indices

if TYPE_CHECKING:
    from torch import Tensor

PIECE = 1 << 20
"""Entries of all updates together that are looked at at a time, or a row of a tensor if that is more."""


@dataclass(frozen=True)
class Part:
    """Rows of the tensor ``name``, and where they lie in a piece."""

    name: str
    rows: slice
    at: slice


@dataclass(frozen=True)
class Piece:
    """``values`` (arrivals, entries) of ``parts`` of the model; NaN at what an arrival does not cover, and at what too
    few cover.
    """

    parts: list[Part]
    values: Tensor

    @cached_property
    def doubles(self) -> tuple[Tensor, Tensor]:
        """Return the values, 0 where none is, and 1 where one is, both as doubles."""
        covered = ~self.values.isnan()
        return self.values.double().masked_fill_(~covered, 0.0), covered.double()


@dataclass(frozen=True)
class Arrived:
    """Updates in submodel shape with their plans and masses. Entries that fewer than ``least`` cover are not looked at:
    who covers an entry alone would be its own witness.
    """

    layout: Layout
    plans: Sequence[SubmodelPlan]
    updates: Sequence[State]
    masses: Sequence[float]
    least: int

    def __len__(self) -> int:
        return len(self.plans)

    def pieces(self) -> Iterator[Piece]:
        """Yield all that is looked at, in the layout's order; made once if it is but one piece."""
        return iter((self._only,)) if len(self._groups) == 1 else map(self._piece, self._groups)

    def distances(self) -> Tensor:
        """Return (arrivals, arrivals): the mean square of the differences where both cover, infinite where nothing."""
        squares, shared = torch.zeros(2, len(self), len(self), dtype=torch.float64)
        for piece in self.pieces():
            values, covered = piece.doubles
            own = values.square() @ covered.T
            squares += own + own.T - 2 * values @ values.T
            shared += covered @ covered.T
        return torch.where(shared > 0, squares.clamp_min(0) / shared, math.inf)

    def norms(self) -> Tensor:
        """Return the root mean square of each update."""
        return self.away(None)

    def away(self, weights: Tensor | None) -> Tensor:
        """Return the root mean square of each update's difference to their mean by ``weights`` (None: to nothing)."""
        squares, looked_at = torch.zeros(2, len(self), dtype=torch.float64)
        for piece in self.pieces():
            values, covered = piece.doubles
            if weights is not None:
                total = weights @ covered
                values = (values - weights @ values / torch.where(total > 0, total, 1.0)) * covered
            squares += values.square().sum(1)
            looked_at += covered.sum(1)
        found: Tensor = (squares / looked_at.clamp_min(1)).sqrt()
        return found

    @cached_property
    def _groups(self) -> list[list[Part]]:
        """Parts of the model that make a piece each."""
        most, groups, end = PIECE // len(self), list[list[Part]](), 0
        for name, entry in self.layout.items():
            if sum(name in update for update in self.updates) < self.least:
                continue
            row = math.prod(entry.shape[1:])
            height = max(1, most // row)
            for first in range(0, entry.shape[0], height):
                rows = slice(first, min(first + height, entry.shape[0]))
                entries = row * (rows.stop - rows.start)
                if not groups or end + entries > most:
                    groups.append([])
                    end = 0
                groups[-1].append(Part(name, rows, slice(end, end + entries)))
                end += entries
        return groups

    @cached_property
    def _only(self) -> Piece:
        return self._piece(self._groups[0])

    def _piece(self, parts: list[Part]) -> Piece:
        values = torch.full((len(self), parts[-1].at.stop), math.nan)
        for part in parts:
            entry = self.layout[part.name]
            for i, update in enumerate(self.updates):
                if part.name in update:
                    shape = (part.rows.stop - part.rows.start, *entry.shape[1:])
                    whole = values[i, part.at].view(shape)
                    _write(whole, kept_indices(entry, self.plans[i]), update[part.name], part.rows)
        few = (~values.isnan()).sum(0) < self.least
        return Piece(parts, values.masked_fill_(few, math.nan))


def _write(whole: Tensor, kept: Indices, update: Tensor, rows: slice) -> None:
    """Write what ``update`` has of ``rows`` of the whole tensor, whose ``kept`` entries it is."""
    first = kept[0]
    if first is None:
        here, part = None, update[rows]
    else:
        start, stop = torch.searchsorted(first, torch.tensor([rows.start, rows.stop])).tolist()
        here, part = first[start:stop] - rows.start, update[start:stop]
    whole[grid((here, *kept[1:]), tuple(whole.shape))] = part
