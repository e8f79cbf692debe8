from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cosp.stream.pixels import from_png, to_png


@settings(max_examples=30)
@given(
    st.integers(1, 4), st.integers(1, 3), st.integers(1, 5), st.integers(0, 99), st.sampled_from(("", "left", "above"))
)
def test_what_is_written_is_read(count: int, channels: int, side: int, seed: int, like: str) -> None:
    images = np.random.default_rng(seed).integers(256, size=(count, channels, side, side), dtype=np.uint8)
    if like == "left":
        images[..., 1:] = images[..., :1]
    if like == "above":
        images[:] = images[:1, :1, :1]
    assert (from_png(to_png(images), (channels, side, side)) == images).all()


def test_it_is_a_picture_for_anybody() -> None:
    images = np.random.default_rng(0).integers(256, size=(3, 1, 8, 8), dtype=np.uint8)
    seen = np.asarray(Image.open(io.BytesIO(to_png(images))))
    assert (seen == images.reshape(24, 8)).all()


@pytest.mark.parametrize(
    "damage",
    [lambda data: data[:-9], lambda data: b"x" + data, lambda data: data[:45] + b"\0" + data[46:]],
    ids=["cut", "another", "changed"],
)
def test_a_damaged_one_is_refused(damage: object) -> None:
    data = to_png(np.full((2, 1, 8, 8), 7, np.uint8))
    with pytest.raises(ValueError, match="no PNG of images"):
        from_png(damage(data), (1, 8, 8))  # type: ignore[operator]


def test_one_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"are 9 pixels wide and grey, got 8 x 16"):
        from_png(to_png(np.zeros((2, 1, 8, 8), np.uint8)), (1, 9, 9))
