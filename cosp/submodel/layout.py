"""Where the prunable units lie inside each parameter tensor.

A model declares one :class:`ParameterLayout` for each of its parameters. Slicing, counting and merging read nothing
else, so no code finds structure by parsing parameter names.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Dict, Optional, Sequence, Tuple

from cosp.submodel.plan import GroupSizes


@dataclass(frozen=True)
class Axis:
    """One tensor dimension that is made of a group's units, ``entries`` consecutive entries a unit.

    Group "words" is no block's: its parameter belongs to the whole model.
    """

    group: str
    entries: int = 1


@dataclass(frozen=True)
class ParameterLayout:
    """Full shape of one parameter, which dimensions are pruned, and what must be kept for it to exist.

    ``block`` is the index of the block that owns it (None: always held); ``exit_after`` is the number of blocks that a
    submodel needs to hold this exit head (None: not part of an exit); ``norm`` marks those of LayerNorms, ``adapter``
    those of adapters.
    """

    shape: Tuple[int, ...]
    axes: Tuple[Optional[Axis], ...]
    block: Optional[int] = None
    exit_after: Optional[int] = None
    norm: bool = False
    adapter: bool = False

    @property
    def groups(self) -> Tuple[str, ...]:
        """The groups of units that it is cut along."""
        return tuple(axis.group for axis in self.axes if axis is not None)

    def held(self, depth: int) -> bool:
        """Tell whether a submodel of the first ``depth`` blocks holds this parameter."""
        return (self.block is None or self.block < depth) and (self.exit_after is None or self.exit_after <= depth)

    def sliced_shape(self, counts: Sequence[GroupSizes]) -> Tuple[int, ...]:
        """Return the shape in a submodel that keeps ``counts[b]`` units in block b, and all words.

        With some words it is that of a model of so many: ``TransformerShape.holding``.
        """
        if self.block is None:
            return self.shape
        kept = counts[self.block]
        return tuple(
            size if axis is None else axis.entries * kept.of(axis.group) for size, axis in zip(self.shape, self.axes)
        )


Layout = Dict[str, ParameterLayout]
"""Parameter name -> where its units lie, in the order in which the parameters travel."""


def whole(
    *shape: int, block: Optional[int] = None, exit_after: Optional[int] = None, norm: bool = False
) -> ParameterLayout:
    """Return the layout of a parameter that is never sliced."""
    return ParameterLayout(shape, (None,) * len(shape), block, exit_after, norm)


def parameter_count(layout: Layout, counts: Sequence[GroupSizes]) -> int:
    """Return the number of parameters of a submodel with ``counts[b]`` units in each of its blocks."""
    depth = len(counts)
    return sum(math.prod(entry.sliced_shape(counts)) for entry in layout.values() if entry.held(depth))
