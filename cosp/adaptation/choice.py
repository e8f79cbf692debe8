"""Which units of a change travel and with how many bits each: those that remove the most error a byte, within a budget.

Each unit may be left out or sent with 2, 4 or 8 bits a weight. What a unit's options gain over their costs is a curve;
the steps of its concave hull, of all units together, are taken from the steepest on while their bytes fit. So a larger
budget takes the same steps and more: the error left falls with the bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Tuple

import numpy as np

from cosp.adaptation.units import BITS, Rounded, Units, entries_at, packed_bytes, rounded, squares

_INDEX_BITS = 12  # what naming a unit takes, about; the exact bytes decide what fits
_EXPONENT_BITS = 8


@dataclass(frozen=True)
class Options:
    """``change`` (entries of all units) rounded at each number of bits, and what each unit is worth unrounded."""

    change: np.ndarray
    at: Dict[int, Rounded]
    worth: np.ndarray


def options_of(change: np.ndarray, units: Units) -> Options:
    """Return every unit's options; ``ValueError`` if ``change`` is not finite."""
    if not np.isfinite(change).all():
        raise ValueError("a weight change must be finite")
    at = {bits: rounded(change, units.lengths, bits) for bits in BITS}
    return Options(change, at, squares(change, units.lengths))


def chosen_bits(options: Options, units: Units, room_bytes: int) -> np.ndarray:
    """Return with how many bits each unit travels, (units,) of 0, 2, 4 and 8, in at most ``room_bytes``."""
    unit, bits = _steps(options, units)

    def after(steps: int) -> np.ndarray:
        found = np.zeros(len(units), dtype=np.int64)
        found[unit[:steps]] = bits[:steps]  # of a unit that is named twice the later step stands
        return found

    low, high = 0, len(unit)
    if body_bytes(after(0), units) > room_bytes:
        return after(0)
    while low < high:  # the most steps whose exact bytes fit: they only grow
        middle = (low + high + 1) // 2
        low, high = (middle, high) if body_bytes(after(middle), units) <= room_bytes else (low, middle - 1)
    return after(low)


def body_bytes(bits: np.ndarray, units: Units) -> int:
    """Return how many bytes units with these ``bits`` take: which they are, their scales, their codes."""
    sent = np.flatnonzero(bits)
    return len(index_bytes(bits)) + len(sent) + packed_bytes(entries_at(units.lengths, bits))


def left_error(options: Options, bits: np.ndarray) -> float:
    """Return the squared error that is left of the change when units travel with these ``bits``."""
    left = np.where(bits == 0, options.worth, 0.0)
    for each in BITS:
        left += np.where(bits == each, options.at[each].errors, 0.0)
    return float(left.sum())


def index_bytes(bits: np.ndarray) -> bytes:
    """Return which units travel and with how many bits: the shorter of two bits a unit, and of the gaps between them.

    It begins with twice their number, one more where gaps follow.
    """
    codes = np.searchsorted((0, *BITS), bits)
    sent = np.flatnonzero(codes)
    gaps = np.diff(sent, prepend=-1) - 1
    listed = _varints(gaps * len(BITS) + codes[sent] - 1)
    mapped = -(-len(bits) // 4)
    if len(listed) <= mapped:
        return _varints(np.array([2 * len(sent) + 1])) + listed
    filled = np.zeros(4 * mapped, dtype=np.uint8)
    filled[: len(codes)] = codes
    whole = np.bitwise_or.reduce(filled.reshape(-1, 4) << np.arange(0, 8, 2, dtype=np.uint8), axis=1)
    return _varints(np.array([2 * len(sent)])) + bytes(whole.astype(np.uint8))


def bits_of_index(data: bytes, units: int) -> Tuple[np.ndarray, int]:
    """Undo :func:`index_bytes`: the bits of each unit and how many bytes were read; ``ValueError`` if it is none."""
    first, start = _read_varints(data, 0, 1)
    count, listed = int(first[0]) // 2, int(first[0]) % 2
    found = np.zeros(units, dtype=np.int64)
    if count > units:
        raise ValueError(f"a change of {units} units cannot hold {count}")
    if not listed:
        stop = start + -(-units // 4)
        flat = np.frombuffer(data[start:stop], dtype=np.uint8)
        codes = ((flat[:, None] >> np.arange(0, 8, 2, dtype=np.uint8)) & 3).ravel()[:units]
        found[: len(codes)] = np.array((0, *BITS))[codes]
        if len(codes) != units or np.count_nonzero(found) != count:
            raise ValueError("a change's index is cut short")
        return found, stop
    values, stop = _read_varints(data, start, count)
    places = np.cumsum(values // len(BITS) + 1) - 1
    if count and places[-1] >= units:
        raise ValueError(f"there is no unit {places[-1]} among {units}")
    found[places] = np.array(BITS)[values % len(BITS)]
    return found, stop


def _steps(options: Options, units: Units) -> Tuple[np.ndarray, np.ndarray]:
    """Return the steps of all hulls, steepest first: whose, and to how many bits."""
    gains = np.stack([options.worth - options.at[bits].errors for bits in BITS], axis=1)
    costs = np.stack([units.lengths * bits + (_EXPONENT_BITS + _INDEX_BITS) for bits in BITS], axis=1)
    gained, paid = np.zeros(len(units)), np.zeros(len(units))
    every = np.arange(len(units))
    steep, unit, bits = [], [], []
    for _ in BITS:
        rises = gains - gained[:, None]
        further = costs - paid[:, None]
        slopes = np.where((further > 0) & (rises > 0), rises / np.maximum(further, 1), 0.0)
        best = slopes.argmax(1)
        slope = slopes[every, best]
        on = slope > 0
        steep.append(slope[on])
        unit.append(every[on])
        bits.append(np.array(BITS)[best[on]])
        gained, paid = np.where(on, gains[every, best], gained), np.where(on, costs[every, best], paid)
    order = np.argsort(-np.concatenate(steep), kind="stable")
    return np.concatenate(unit)[order], np.concatenate(bits)[order]


def _varints(values: np.ndarray) -> bytes:
    """Return whole numbers in seven bits a byte, low ones first, the eighth telling that more follow (LEB128)."""
    groups = []
    left, more = values.astype(np.int64), np.ones(len(values), dtype=bool)
    while more.any():
        further = left >= 128
        groups.append(np.where(more, (left & 127) + (further << 7), -1))
        more, left = more & further, left >> 7
    if not groups:
        return b""
    table = np.stack(groups, axis=1).ravel()
    return bytes(table[table >= 0].astype(np.uint8))


def _read_varints(data: bytes, start: int, count: int) -> Tuple[np.ndarray, int]:
    """Return ``count`` numbers from ``start`` on, and where they end; ``ValueError`` if they are not there."""
    flat = np.frombuffer(data, dtype=np.uint8)[start : start + 5 * count]
    ends = np.flatnonzero(flat < 128)[:count]
    if len(ends) < count:
        raise ValueError("a change's index is cut short")
    if not count:
        return np.zeros(0, dtype=np.int64), start
    used = flat[: ends[-1] + 1].astype(np.int64)
    firsts = np.concatenate([[0], ends[:-1] + 1])
    within = np.arange(len(used)) - np.repeat(firsts, ends - firsts + 1)
    return np.add.reduceat((used & 127) << (7 * within), firsts), start + len(used)
