"""Which units of the global model a client holds: integers only, no tensors.

Four groups of units can be pruned in each block (method section "plan"):

====================  =======  ==================================================================
group                 number   removing one unit removes
====================  =======  ==================================================================
``heads``             H        its rows of W_q, W_k, W_v (and biases) and its columns of W_o
``attention_rows``    D        one row of W_o and its bias: attention no longer writes there
``hidden``            M        one row of W_1 and its bias, and the matching column of W_2
``ffn_rows``          D        one row of W_2 and its bias: the FFN no longer writes there
====================  =======  ==================================================================

The residual stream keeps its width; LayerNorms and the kept exits are whole, and so is what makes tokens of a sample,
but for a fifth group, once a model: ``words``, the rows of a text model's word table. Which of them a client needs its
own texts say, so nobody chooses among them; see :mod:`cosp.submodel.words`.

A model with adapters (:mod:`cosp.submodel.adapters`) has one group more in each block, ``ranks``: removing one removes
a row of every A and a column of every B. Their number follows from a client's budget; no score ranks them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import accumulate
from operator import lt
from typing import Any, Dict, List, Mapping, Optional, Tuple

import numpy as np

GROUPS: Tuple[str, ...] = ("heads", "attention_rows", "hidden", "ffn_rows")
BLOCK_GROUPS: Tuple[str, ...] = (*GROUPS, "ranks")
"""All that a block's units are of; a model without adapters has no ranks."""

Units = Tuple[int, ...]


@dataclass(frozen=True)
class GroupSizes:
    """How many units each group has in one block: all of them, or those that a submodel keeps."""

    heads: int
    attention_rows: int
    hidden: int
    ffn_rows: int
    ranks: int = 0

    def of(self, group: str) -> int:
        return int(getattr(self, group))

    def scaled(self, width: float) -> GroupSizes:
        """Return the share ``width`` of every group, rounded down, at least one unit each, and all ranks, which take
        next to nothing.
        """
        kept = {group: max(1, min(self.of(group), int(width * self.of(group)))) for group in GROUPS}
        return GroupSizes(**kept, ranks=self.ranks)


@dataclass(frozen=True)
class BlockPlan:
    """The kept units of one block, each group as ascending indices into the global block."""

    heads: Units
    attention_rows: Units
    hidden: Units
    ffn_rows: Units
    ranks: Units = ()

    def __post_init__(self) -> None:
        for group in GROUPS:
            units = self.of(group)
            if not units:
                raise ValueError(f"{group}: a block keeps at least one unit of every group, got none")
            check_ascending(group, units)
        if self.ranks:
            check_ascending("ranks", self.ranks)

    def of(self, group: str) -> Units:
        units: Units = getattr(self, group)
        return units

    @cached_property
    def counts(self) -> GroupSizes:
        return GroupSizes(**{group: len(self.of(group)) for group in BLOCK_GROUPS})


@dataclass(frozen=True)
class SubmodelPlan:
    """The first ``depth`` blocks of the global model and the units kept in each; ``words`` None keeps all of them."""

    blocks: Tuple[BlockPlan, ...]
    words: Optional[Units] = None

    def __post_init__(self) -> None:
        if not self.blocks:
            raise ValueError("a plan keeps at least one block, got none")
        if self.words is not None:
            if not self.words:
                raise ValueError("words: a plan keeps at least one of them, got none")
            check_ascending("words", self.words)

    @property
    def depth(self) -> int:
        return len(self.blocks)

    @cached_property
    def counts(self) -> Tuple[GroupSizes, ...]:
        return tuple(block.counts for block in self.blocks)

    def to_json(self) -> str:
        named = (GROUPS if not block.ranks else BLOCK_GROUPS for block in self.blocks)
        blocks = [{group: block.of(group) for group in groups} for block, groups in zip(self.blocks, named)]
        return json.dumps({"blocks": blocks, **({} if self.words is None else {"words": self.words})})

    @staticmethod
    def from_json(text: str) -> SubmodelPlan:
        """Undo :meth:`to_json`; ``ValueError`` if ``text`` is not a plan."""
        try:
            return _from_lists(json.loads(text))
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise ValueError(f"not a plan: {error!r}") from error

    def to_bytes(self, sizes: GroupSizes) -> bytes:
        """Return the wire form of the blocks, ``wire_bytes`` long: one bit a unit, each group from a new byte on.

        Words travel beside it, in the form of ``words_to_bytes``.
        """
        room = [8 * length for length in _lengths(sizes)]  # each group begins a byte
        starts = [0, *accumulate(room * self.depth)]
        bits = np.zeros(starts[-1], dtype=bool)
        groups = ((block.of(group), sizes.of(group)) for block in self.blocks for group in BLOCK_GROUPS)
        for (units, size), start in zip(groups, starts):
            bits[start : start + size] = mask(units, size)
        return np.packbits(bits).tobytes()

    @staticmethod
    def from_bytes(data: bytes, sizes: GroupSizes) -> SubmodelPlan:
        """Undo :meth:`to_bytes`; ``ValueError`` if ``data`` is not a plan for blocks of these ``sizes``."""
        flat = np.frombuffer(data, dtype=np.uint8)
        lengths = _lengths(sizes)
        if len(flat) == 0 or len(flat) % sum(lengths):
            raise ValueError(f"not a plan for blocks of {sizes}: {len(flat)} bytes")
        blocks = []
        for row in flat.reshape(-1, sum(lengths)):
            parts = np.split(row, np.cumsum(lengths)[:-1])
            bits = {g: np.unpackbits(part, count=sizes.of(g)) for g, part in zip(BLOCK_GROUPS, parts)}
            kept = {g: units_at(np.flatnonzero(part), len(part)) for g, part in bits.items()}
            blocks.append(BlockPlan(**kept))
        return SubmodelPlan(tuple(blocks))


def check_ascending(group: str, units: Units) -> None:
    """ValueError unless ``units`` ascend from 0 or more."""
    if units[0] < 0 or not all(map(lt, units, units[1:])):
        raise ValueError(f"{group}: units must be ascending and >= 0, got {units[:8]}...")


def full_plan(sizes: GroupSizes, depth: int) -> SubmodelPlan:
    """Return the plan that keeps every unit of the first ``depth`` blocks."""
    return prefix_plan(sizes, depth)


@lru_cache(maxsize=256)
def prefix_plan(counts: GroupSizes, depth: int) -> SubmodelPlan:
    """Return the plan that keeps the first ``counts`` units of every group (HeteroFL's choice)."""
    block = BlockPlan(**{group: tuple(range(counts.of(group))) for group in BLOCK_GROUPS})
    return SubmodelPlan((block,) * depth)


def mask(units: Units, size: int) -> np.ndarray:
    """Return a boolean vector of ``size`` that is true at the ascending ``units``; ``ValueError`` beyond ``size``."""
    if units and units[-1] >= size:
        raise ValueError(f"there is no unit {units[-1]} among {size}")
    kept = np.zeros(size, dtype=bool)
    kept[np.fromiter(units, dtype=np.intp, count=len(units))] = True
    return kept


def wire_bytes(sizes: GroupSizes, depth: int) -> int:
    """Return how long the wire form of any plan of ``depth`` blocks is: it does not depend on which units they keep."""
    return depth * sum(_lengths(sizes))


def _lengths(sizes: GroupSizes) -> List[int]:
    """Return how many bytes hold one bit a unit of each group."""
    return [(sizes.of(group) + 7) // 8 for group in BLOCK_GROUPS]


@lru_cache(maxsize=64)
def all_units(size: int) -> Units:
    """Return all units of a group of ``size``."""
    return tuple(range(size))


def units_at(indices: np.ndarray, size: int) -> Units:
    """Return the units at ascending ``indices`` of a group of ``size``.

    All plans share one Python number a unit: those of 64 plans of a ViT-B would take 140 MB of their own.
    """
    units = all_units(size)
    return units if len(indices) == size else tuple(units[i] for i in indices.tolist())


def words_to_bytes(words: Units, vocabulary: int) -> bytes:
    """Return the wire form of a plan's words: one bit a word of the ``vocabulary``."""
    return np.packbits(mask(words, vocabulary)).tobytes()


def words_from_bytes(data: bytes, vocabulary: int) -> Units:
    """Undo :func:`words_to_bytes`; ``ValueError`` if ``data`` is not of so many words, or of none."""
    flat = np.frombuffer(data, dtype=np.uint8)
    if len(flat) != words_bytes(vocabulary):
        raise ValueError(f"words: {vocabulary} take {words_bytes(vocabulary)} bytes, got {len(flat)}")
    return units_at(np.flatnonzero(np.unpackbits(flat, count=vocabulary)), vocabulary)


def words_bytes(vocabulary: int) -> int:
    """Return how long the wire form of any words of a ``vocabulary`` is."""
    return (vocabulary + 7) // 8


def _from_lists(value: Mapping[str, Any]) -> SubmodelPlan:
    blocks = []
    for block in value["blocks"]:
        groups = BLOCK_GROUPS if "ranks" in block else GROUPS
        kept: Dict[str, Units] = {group: tuple(int(unit) for unit in block[group]) for group in groups}
        blocks.append(BlockPlan(**kept))
    words = value.get("words")
    return SubmodelPlan(tuple(blocks), None if words is None else tuple(int(word) for word in words))
