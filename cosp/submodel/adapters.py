"""Adapters: two thin matrices beside a projection, h = W x + B (A x) (LoRA, Hu et al. 2021, arXiv:2106.09685).

A (rank, inputs) is drawn, B (outputs, rank) begins as zeros, so that a model with fresh adapters computes what it does
without; there is no other scale. Their ranks are units of each block, the same in all of its adapters: a plan that
keeps some has those rows of every A and columns of every B. Where the projection itself is cut, so are A's inputs and
B's outputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, NamedTuple, Optional, Tuple

from cosp.submodel.layout import Axis

PROJECTIONS = ("query", "key", "value", "output", "up", "down")
READS_STREAM = ("query", "key", "value")
"""Those that attention makes of what it reads, in the order in which they lie in one product."""


@dataclass(frozen=True)
class Adapters:
    """``projections``: which of every block have one. (YAML reads a key ``on`` as true.)"""

    rank: int = 8
    projections: Tuple[str, ...] = ("query", "value", "up", "down")

    def __post_init__(self) -> None:
        object.__setattr__(self, "projections", tuple(self.projections))
        unknown = [name for name in self.projections if name not in PROJECTIONS]
        if unknown or not self.projections:
            got = repr(unknown[0]) if unknown else "none"
            raise ValueError(f"projections must name some of {', '.join(PROJECTIONS)}, got {got}")
        if len(set(self.projections)) < len(self.projections):
            raise ValueError(f"projections names one twice: {', '.join(self.projections)}")
        object.__setattr__(self, "projections", tuple(name for name in PROJECTIONS if name in self.projections))
        if isinstance(self.rank, bool) or not isinstance(self.rank, int) or self.rank < 1:
            raise ValueError(f"rank must be a whole number of at least 1, got {self.rank!r}")


class Side(NamedTuple):
    """What a projection reads, or writes: so many entries, and the units that they are of."""

    entries: int
    axis: Optional[Axis]


def sides(name: str, *, dim: int, head_dim: int, hidden: int) -> Tuple[Side, Side]:
    """Return what the projection of that name reads and writes."""
    stream, heads, units = Side(dim, None), Side(dim, Axis("heads", head_dim)), Side(hidden, Axis("hidden"))
    known: Dict[str, Tuple[Side, Side]] = {
        **dict.fromkeys(READS_STREAM, (stream, heads)),
        "output": (heads, Side(dim, Axis("attention_rows"))),
        "up": (stream, units),
        "down": (units, Side(dim, Axis("ffn_rows"))),
    }
    return known[name]


def place(name: str) -> str:
    """Return where in a block the adapter of that name is: its matrices are ``.a`` and ``.b`` there."""
    return f"{'ffn' if name in ('up', 'down') else 'attention'}.adapters.{name}"
