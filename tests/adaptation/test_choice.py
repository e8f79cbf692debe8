"""Which units travel: the most error removed a byte."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosp.adaptation.choice import (
    bits_of_index,
    body_bytes,
    chosen_bits,
    index_bytes,
    left_error,
    options_of,
)
from cosp.adaptation.units import Units

LENGTHS = np.array([4, 1, 7, 3, 5, 2] * 5)
UNITS = Units(np.cumsum(LENGTHS) - LENGTHS, LENGTHS, int(LENGTHS.sum()))


def change_of(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    sizes = np.repeat(np.exp(rng.normal(0, 2, len(UNITS))), LENGTHS)
    return (rng.normal(0, 1, UNITS.total) * sizes).astype(np.float32)


@given(st.integers(0, 99), st.integers(1, 900), st.sampled_from([0.0, 0.001, 0.05, 0.5, 1.0]))
def test_an_index_is_undone_and_says_where_it_ends(seed, units, share):
    rng = np.random.default_rng(seed)
    bits = np.where(rng.random(units) < share, rng.choice([2, 4, 8], units), 0)
    data = index_bytes(bits)
    again, read = bits_of_index(data + b"\xff\x00", len(bits))
    assert (again.tolist(), read) == (bits.tolist(), len(data))


def test_few_units_far_apart_are_told_by_their_gaps():
    bits = np.zeros(10_000, dtype=int)
    bits[[3, 9_000]] = 4
    assert len(index_bytes(bits)) == 5  # how many, a gap of one byte and one of three


@pytest.mark.parametrize("data", [b"", b"\x03", b"\x80", b"\x02\x01", bytes([2 * 50])])
def test_an_index_cut_short_or_of_too_many_units_is_refused(data):
    with pytest.raises(ValueError, match=r"cut short|cannot hold"):
        bits_of_index(data, 40)


@settings(max_examples=30)
@given(st.integers(0, 1000), st.lists(st.integers(0, 200), min_size=2, max_size=6))
def test_bytes_stay_in_the_budget_and_the_error_falls_with_it(seed, rooms):
    options = options_of(change_of(seed), UNITS)
    found = [chosen_bits(options, UNITS, room) for room in sorted(rooms)]
    taken = [body_bytes(bits, UNITS) for bits in found]
    errors = [left_error(options, bits) for bits in found]
    assert all(used <= room or not bits.any() for used, room, bits in zip(taken, sorted(rooms), found, strict=True))
    assert taken == sorted(taken)
    assert errors == sorted(errors, reverse=True)


def test_with_room_for_all_every_unit_has_eight_bits():
    options = options_of(change_of(1), UNITS)
    assert (chosen_bits(options, UNITS, 10_000) == 8).all()


def test_what_is_left_is_what_the_options_say():
    options = options_of(change_of(2), UNITS)
    norm = float((change_of(2).astype(float) ** 2).sum())
    assert left_error(options, np.zeros(len(UNITS), int)) == pytest.approx(norm)


def test_the_unit_that_moved_is_sent_first():
    change = np.full(UNITS.total, 1e-3, np.float32)
    change[UNITS.entries(np.array([8]))] = [3, -1, 2, 0, 1, 2, 3]
    bits = chosen_bits(options_of(change, UNITS), UNITS, 8)
    assert np.flatnonzero(bits).tolist() == [8]


def test_a_change_that_is_not_finite_is_refused():
    change = change_of(0)
    change[3] = np.nan
    with pytest.raises(ValueError, match="finite"):
        options_of(change, UNITS)
