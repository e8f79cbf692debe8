"""Compressed weights and weight changes: what the wire takes away, and that it takes it once."""

from __future__ import annotations

from fractions import Fraction
from itertools import accumulate

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cosp.submodel.flat import Span, Spans
from cosp.task.compression import CompressionSettings, pack, rounded_, unpack

SPANS = {"a": Span(0, 3, (3,)), "b": Span(3, 5, (2,))}


def rounded(change: torch.Tensor, spans: Spans = SPANS) -> torch.Tensor:
    return rounded_(change.clone(), spans)


def bits(vector: torch.Tensor) -> list[int]:
    return vector.view(torch.int32).tolist()


def test_each_tensor_has_the_least_power_of_two_that_reaches_its_largest_entry():
    packed = pack(torch.tensor([127.0, 0.4, -1.6, 0.5, -0.25]), SPANS)
    assert packed.tolist() == [0, -7, 127, 0, -2, 64, -32]  # scales 2**0 and 2**-7


def test_unpacking_gives_whole_numbers_of_the_scale():
    change = unpack(np.array([0, -7, 127, 0, -2, 64, -32], np.int8), SPANS)
    assert change.tolist() == [127.0, 0.0, -2.0, 0.5, -0.25]


finite = st.floats(-(2.0**100), 2.0**100, width=32, allow_subnormal=False)


@given(st.lists(finite, min_size=5, max_size=5))
def test_packing_again_changes_nothing(values):
    once = rounded(torch.tensor(values))
    assert torch.equal(rounded(once), once)


anything = st.floats(width=32) | st.floats(-(2.0**-120), 2.0**-120, width=32) | st.sampled_from([0.0, -0.0])


@given(st.lists(anything, min_size=5, max_size=5))
def test_rounding_is_packing_and_unpacking_to_the_bit(values):
    change = torch.tensor(values)
    assert bits(rounded(change)) == bits(unpack(pack(change, SPANS), SPANS))


def obviously_packed(change: torch.Tensor, spans: Spans) -> list[int]:
    """One number after another: the least exponent that holds the tensor's largest, then whole numbers."""
    exponents, wholes = [], []
    for span in spans.values():
        part = [Fraction(value) for value in change[span.start : span.stop].tolist()]
        largest = max(map(abs, part))
        exponent = next(e for e in range(-126, 128) if 127 * Fraction(2) ** e >= largest) if largest else -127
        exponents.append(exponent)
        wholes += [round(value / Fraction(2) ** exponent) for value in part]
    return exponents + wholes


@given(
    st.lists(
        st.lists(finite.filter(lambda v: v == 0 or abs(v) > 1e-30), min_size=1, max_size=9), min_size=1, max_size=4
    )
)
def test_packing_is_the_obvious_one(tensors):
    ends = list(accumulate(map(len, tensors)))
    spans = {
        str(i): Span(end - len(one), end, (len(one),)) for i, (one, end) in enumerate(zip(tensors, ends, strict=True))
    }
    change = torch.tensor([value for one in tensors for value in one])
    assert pack(change, spans).tolist() == obviously_packed(change, spans)


@given(st.lists(st.floats(-1024, 1024, width=32, allow_subnormal=False), min_size=5, max_size=5))
def test_an_entry_is_off_by_under_a_hundredth_of_its_tensors_largest(values):
    change = torch.tensor(values)
    error = (rounded(change) - change).abs()
    for span in SPANS.values():
        part = slice(span.start, span.stop)
        assert float(error[part].max()) <= 0.008 * float(change[part].abs().max()) + 1e-37


def test_a_tensor_of_zeros_stays_one():
    assert torch.equal(rounded(torch.zeros(5)), torch.zeros(5))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_finite_arrives_as_such(bad):
    change = rounded(torch.tensor([1.0, bad, 0.0, 2.0, 3.0]))
    assert not torch.isfinite(change[:3]).any()
    assert change[3:].tolist() == [2.0, 3.0]


def test_wrong_bytes_arrive_as_not_finite():
    change = unpack(np.array([127, 126, 0, 0, 1, 127, 127], np.int8), SPANS)
    assert not torch.isfinite(change).any()


@pytest.mark.parametrize("packed", [np.zeros(6, np.int8), np.zeros(7, np.uint8)], ids=["short", "unsigned"])
def test_other_lengths_and_types_are_refused(packed):
    with pytest.raises(ValueError, match="must have 7 int8"):
        unpack(packed, SPANS)


def test_halves_are_received_as_floats():
    received = CompressionSettings(down="float16").received(torch.tensor([0.1, 1.0]))
    assert received.dtype == torch.float32
    assert received.tolist() == [float(np.float16(0.1)), 1.0]


def test_bytes_of_both_ways():
    small = CompressionSettings(down="float16", up="int8")
    assert (small.download_bytes(100), small.upload_bytes(100, tensors=7)) == (200, 107)
    plain = CompressionSettings()
    assert (plain.download_bytes(100), plain.upload_bytes(100, tensors=7)) == (400, 400)


@pytest.mark.parametrize("way", ["down", "up"])
def test_an_unknown_format_is_named(way):
    with pytest.raises(ValueError, match=f"{way} must be one of .* got 'int4'"):
        CompressionSettings(**{way: "int4"})
