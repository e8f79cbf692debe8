"""A weight change in units: short pieces of tensors, each with a power of two as scale and 0, 2, 4 or 8 bits a weight.

Scales being powers of two (as in :mod:`cosp.task.compression`), whole numbers of them are the same floats wherever they
are multiplied out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, List, Mapping, Sequence, Tuple

import numpy as np

from cosp.submodel.flat import Spans

BITS = (2, 4, 8)
LARGEST = {2: 1, 4: 7, 8: 127}
"""Bits -> the largest whole number that they tell; there are as many below zero."""
FINER = {2: 2, 4: 1, 8: 0}
"""Bits -> how many smaller scales are tried, beside the one that reaches the unit's largest entry."""
LONGEST = 64
LEAST_EXPONENT, MOST_EXPONENT = -118, 120
"""So that every whole number of a scale is a normal float32."""


@dataclass(frozen=True)
class Units:
    """Pieces of a vector of ``total`` weights: ``starts`` ascend and ``lengths`` (both (units,)) are at least one."""

    starts: np.ndarray
    lengths: np.ndarray
    total: int

    def __len__(self) -> int:
        return len(self.starts)

    def entries(self, chosen: np.ndarray) -> np.ndarray:
        """Return where the entries of the ``chosen`` units lie in the vector, unit by unit."""
        lengths = self.lengths[chosen]
        ends = np.cumsum(lengths)
        within = np.arange(int(lengths.sum())) - np.repeat(ends - lengths, lengths)
        return np.asarray(np.repeat(self.starts[chosen], lengths) + within)


def units_of(spans: Spans, names: Sequence[str], longest: int = LONGEST) -> Units:
    """Cut the tensors of ``names`` that ``spans`` hold into units: rows along the last dimension, long ones in pieces.

    Rows mostly are what cosp prunes by (a hidden unit, a row of a head), so their entries move alike.
    """
    starts: List[np.ndarray] = []
    lengths: List[np.ndarray] = []
    for name in names:
        if name not in spans:
            continue
        span = spans[name]
        row = span.shape[-1] if span.shape else 1
        pieces = np.arange(0, row, longest)
        rows = np.arange(span.start, span.stop, row)
        starts.append((rows[:, None] + pieces).ravel())
        lengths.append(np.tile(np.minimum(longest, row - pieces), len(rows)))
    if not starts:
        raise ValueError(f"the submodel holds none of {len(names)} tensors that are to be sent")
    first, long = np.concatenate(starts), np.concatenate(lengths)
    order = np.argsort(first, kind="stable")
    return Units(first[order], long[order], max(span.stop for span in spans.values()))


@dataclass(frozen=True)
class Rounded:
    """Units at some bits: ``codes`` (entries,) int8 unit by unit, an exponent and the squared error left of each."""

    codes: np.ndarray
    exponents: np.ndarray
    errors: np.ndarray


def rounded(values: np.ndarray, lengths: np.ndarray, bits: int) -> Rounded:
    """Round ``values`` (entries,), units end to end, to whole numbers of the scale that leaves least squared error."""
    starts = np.cumsum(lengths) - lengths
    exact = values.astype(np.float64)
    most = np.maximum.reduceat(np.abs(exact), starts)
    reaching = np.clip(_exponents(most / LARGEST[bits]), LEAST_EXPONENT, MOST_EXPONENT)
    codes, errors = _at(exact, lengths, starts, reaching, bits)
    exponents = reaching
    for finer in range(1, FINER[bits] + 1):
        tried = np.maximum(reaching - finer, LEAST_EXPONENT)
        found, left = _at(exact, lengths, starts, tried, bits)
        better = left < errors
        codes = np.where(np.repeat(better, lengths), found, codes)
        errors, exponents = np.where(better, left, errors), np.where(better, tried, exponents)
    return Rounded(codes.astype(np.int8), exponents.astype(np.int8), errors)


def multiplied_out(codes: np.ndarray, exponents: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return the floats that ``codes`` mean, float32 (entries,): exact, as a scale is a power of two."""
    scales = np.ldexp(np.float32(1), exponents.astype(np.int32)).astype(np.float32)
    return np.asarray(codes.astype(np.float32) * np.repeat(scales, lengths), dtype=np.float32)


def squares(values: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return each unit's squared norm, (units,) float64."""
    return np.asarray(np.add.reduceat(values.astype(np.float64) ** 2, np.cumsum(lengths) - lengths))


def _exponents(least: np.ndarray) -> np.ndarray:
    """Return the exponents of the least powers of two that reach ``least``."""
    mantissas, exponents = np.frexp(least)
    return np.asarray(np.where(least > 0, exponents - (mantissas == 0.5), LEAST_EXPONENT))


def _at(
    exact: np.ndarray, lengths: np.ndarray, starts: np.ndarray, exponents: np.ndarray, bits: int
) -> Tuple[np.ndarray, np.ndarray]:
    scales = np.repeat(np.ldexp(1.0, exponents), lengths)
    codes = np.clip(np.rint(exact / scales), -LARGEST[bits], LARGEST[bits])
    return codes, np.add.reduceat((exact - codes * scales) ** 2, starts)


def packed(codes: Mapping[int, np.ndarray]) -> bytes:
    """Return all ``codes``, by bits, as two's complement: those of 8 bits, then those of 4 and of 2 without a gap."""
    fours, twos = _unsigned(codes[4], 4), _unsigned(codes[2], 2)
    pieces = np.concatenate([np.stack([fours & 3, fours >> 2], axis=1).ravel(), twos])
    filled = np.zeros(-(-len(pieces) // 4) * 4, dtype=np.uint8)
    filled[: len(pieces)] = pieces
    shared = np.bitwise_or.reduce(filled.reshape(-1, 4) << _SHIFTS, axis=1)
    return bytes(codes[8].astype(np.int8).tobytes() + shared.astype(np.uint8).tobytes())


def unpacked(data: bytes, counts: Mapping[int, int]) -> Dict[int, np.ndarray]:
    """Undo :func:`packed` of so many codes by bits; ``ValueError`` if ``data`` has another length."""
    if len(data) != packed_bytes(counts):
        raise ValueError(f"codes must take {packed_bytes(counts)} bytes, got {len(data)}")
    flat = np.frombuffer(data, dtype=np.uint8)
    eights, shared = flat[: counts[8]].astype(np.int8), flat[counts[8] :]
    pieces = ((shared[:, None] >> _SHIFTS) & 3).ravel()
    fours = pieces[: 2 * counts[4]].reshape(-1, 2)
    twos = pieces[2 * counts[4] : 2 * counts[4] + counts[2]]
    return {2: _signed(twos, 2), 4: _signed(fours[:, 0] + (fours[:, 1] << 2), 4), 8: eights}


def packed_bytes(counts: Mapping[int, int]) -> int:
    """Return how long :func:`packed` of so many codes by bits is."""
    return counts[8] + (4 * counts[4] + 2 * counts[2] + 7) // 8


def entries_at(lengths: np.ndarray, bits: np.ndarray) -> Dict[int, int]:
    """Return how many entries of units of these ``lengths`` have each number of ``bits`` (units,)."""
    return {each: int(lengths[bits == each].sum()) for each in BITS}


_SHIFTS = np.arange(0, 8, 2, dtype=np.uint8)


def _unsigned(codes: np.ndarray, bits: int) -> np.ndarray:
    return np.asarray(codes.astype(np.int16) & (2**bits - 1), dtype=np.uint8)


def _signed(unsigned: np.ndarray, bits: int) -> np.ndarray:
    wide = unsigned.astype(np.int16)
    return np.where(wide >= 2 ** (bits - 1), wide - 2**bits, wide).astype(np.int8)
