"""Units of a change: how they are cut, rounded and packed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosp.adaptation.units import (
    BITS,
    LARGEST,
    entries_at,
    multiplied_out,
    packed,
    packed_bytes,
    rounded,
    squares,
    units_of,
    unpacked,
)
from cosp.submodel.flat import Span

SPANS = {"matrix": Span(0, 6, (2, 3)), "other": Span(6, 8, (2,)), "bias": Span(8, 13, (5,))}
values = st.floats(-100, 100, width=32)
changes = st.lists(values, min_size=7, max_size=7).map(lambda found: np.array(found, dtype=np.float32))
LENGTHS = np.array([3, 1, 3])


def test_units_are_rows_and_long_ones_come_in_pieces():
    units = units_of(SPANS, ("matrix", "bias"), longest=4)
    assert units.starts.tolist() == [0, 3, 8, 12]
    assert units.lengths.tolist() == [3, 3, 4, 1]


def test_entries_of_chosen_units_lie_end_to_end():
    units = units_of(SPANS, ("matrix", "bias"), longest=4)
    assert units.entries(np.array([1, 2])).tolist() == [3, 4, 5, 8, 9, 10, 11]


def test_a_submodel_without_any_of_the_tensors_is_refused():
    with pytest.raises(ValueError, match="holds none"):
        units_of(SPANS, ("adapter",))


@given(changes, st.sampled_from(BITS))
def test_what_is_left_and_what_is_sent_are_the_change(change, bits):
    found = rounded(change, LENGTHS, bits)
    sent = multiplied_out(found.codes, found.exponents, LENGTHS).astype(np.float64)
    left = change.astype(np.float64) - sent
    assert np.allclose(squares(left, LENGTHS), found.errors, rtol=1e-6, atol=1e-12)
    assert np.array_equal(left + sent, change)


@given(changes)
def test_more_bits_leave_no_larger_error(change):
    errors = [rounded(change, LENGTHS, bits).errors for bits in BITS]
    assert (errors[1] <= errors[0] + 1e-12).all()
    assert (errors[2] <= errors[1] + 1e-12).all()


def test_a_scale_is_a_power_of_two_that_leaves_least():
    found = rounded(np.array([1.0, 0.9, -1.1, 0.0], np.float32), np.array([4]), 2)
    assert (found.codes.tolist(), found.exponents.tolist()) == ([1, 1, -1, 0], [0])


def test_zeros_stay_zeros_at_any_bits():
    for bits in BITS:
        assert not rounded(np.zeros(4, np.float32), np.array([4]), bits).codes.any()


@given(st.data())
def test_packing_is_undone(data):
    codes = {
        bits: np.array(data.draw(st.lists(st.integers(-LARGEST[bits], LARGEST[bits]), max_size=9)), dtype=np.int8)
        for bits in BITS
    }
    counts = {bits: len(each) for bits, each in codes.items()}
    message = packed(codes)
    assert len(message) == packed_bytes(counts)
    again = unpacked(message, counts)
    assert all(again[bits].tolist() == codes[bits].tolist() for bits in BITS)


def test_codes_of_another_length_are_refused():
    with pytest.raises(ValueError, match="must take 3 bytes, got 2"):
        unpacked(b"ab", {2: 0, 4: 4, 8: 1})


def test_entries_are_counted_by_bits():
    assert entries_at(LENGTHS, np.array([0, 4, 8])) == {2: 0, 4: 1, 8: 3}
