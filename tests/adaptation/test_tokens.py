"""A sample as tokens and as pixels: what is kept, what it takes, what comes back."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cosp.adaptation.png import from_png, to_png
from cosp.adaptation.tokens import (
    TokenSettings,
    framed,
    from_levels,
    kept_tokens,
    leave_scores,
    means_without,
    merged_tokens,
    norm_scores,
    pixels_message,
    read_pixels,
    read_tokens,
    shortest,
    to_levels,
    tokens_bytes,
    tokens_message,
    unframed,
)
from tests.small_models import SMALL, model_with, random_samples, random_state


def stream(seed: int, tokens: int = 7, dim: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 2, (3, tokens, dim)).astype(np.float32)


def test_the_norm_score_is_the_squared_norm_and_what_dropout_draws_find():
    x = stream(0)
    assert norm_scores(x) == pytest.approx((x.astype(float) ** 2).sum(-1))
    draws = torch.stack([torch.nn.functional.dropout(torch.from_numpy(x), 0.5) for _ in range(4000)])
    variance = draws.var(0).mean(-1).numpy()  # the released code's uncertainty
    assert np.corrcoef(variance.ravel(), norm_scores(x).ravel())[0, 1] > 0.99


def test_own_tokens_and_the_highest_scores_are_kept_in_their_order():
    scores = np.array([[0.0, 5, 1, 9, 3]])
    assert kept_tokens(scores, 3, own=1).tolist() == [[0, 1, 3]]


@given(st.integers(1, 40), st.floats(0.01, 1.0))
def test_rho_is_rounded_up(tokens, rho):
    kept = TokenSettings(rho=rho).kept(tokens + 1, own=1)
    assert 2 <= kept <= tokens + 1
    assert kept - 1 >= rho * tokens


def test_a_token_that_says_nothing_can_be_left():
    x = stream(1)
    without = means_without(x)
    assert without[0, 2] == pytest.approx(np.delete(x[0], 2, axis=0).mean(0), abs=1e-6)
    p = np.array([[0.7, 0.3]])
    found = leave_scores(p, np.array([[[0.7, 0.3], [0.3, 0.7]]]))
    assert found[0].tolist() == pytest.approx([0.0, 0.4 * np.log(7 / 3)])


@given(st.integers(0, 99), st.integers(2, 13))
def test_merging_keeps_the_mean_and_counts_all(seed, keep):
    x = np.random.default_rng(seed).normal(0, 1, (13, 4)).astype(np.float32)
    merged, sizes = merged_tokens(x, keep, own=1, columns=4)
    assert (len(merged), sizes.sum(), sizes[0]) == (keep, 13, 1)
    assert (merged * sizes[:, None]).sum(0) / 13 == pytest.approx(x.mean(0), abs=1e-5)
    assert np.array_equal(merged[0], x[0])  # the class token stays


def test_neighbours_that_are_alike_merge_first():
    left, right = np.array([1.0, 0.0]), np.array([0.0, 1.0])
    x = np.stack([left, left, right, right, left, left, right, right])  # two rows of four
    merged, sizes = merged_tokens(x, 2, own=0, columns=4)
    assert sizes.tolist() == [4, 4]
    assert merged.tolist() == [left.tolist(), right.tolist()]


@given(st.integers(0, 99), st.integers(1, 9), st.integers(1, 9))
def test_tokens_come_back_within_half_a_step_and_take_their_bytes(seed, tokens, dim):
    x = stream(seed, tokens, dim)[0]
    sizes = np.arange(1, tokens + 1)
    message = tokens_message(x, sizes, after=2)
    again, counted, after = read_tokens(message, dim)
    assert len(message) == tokens_bytes(tokens, dim)
    assert (counted.tolist(), after) == (sizes.tolist(), 2)
    assert (np.abs(again - x).max(1) <= np.abs(x).max(1) / 127 + 1e-9).all()
    assert tokens_message(again, sizes, after=2) == message


def test_tokens_of_another_width_are_refused():
    message = tokens_message(stream(0)[0], np.ones(7), after=0)
    with pytest.raises(ValueError, match="tokens of 5"):
        read_tokens(message, 6)
    with pytest.raises(ValueError, match="in 41 bytes"):
        read_tokens(message[:41], 5)
    with pytest.raises(ValueError, match="not tokens"):
        read_tokens(b"", 5)


@settings(max_examples=30)
@given(st.integers(0, 99), st.integers(1, 9), st.integers(1, 9), st.sampled_from([1, 3]), st.booleans())
def test_png_is_what_others_read_and_write(seed, height, width, channels, even):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (height, width, channels)).astype(np.uint8)
    if even:
        image = (np.add.outer(np.arange(height), np.arange(width))[:, :, None] * 7 + image % 3).astype(np.uint8)
        image = np.repeat(image[:, :, :1], channels, axis=2)
    encoded = to_png(image)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(encoded))).reshape(image.shape), image)
    assert np.array_equal(from_png(encoded, image.shape), image)


@pytest.mark.parametrize("data", [b"", b"\x89PNG\r\n\x1a\n", to_png(np.zeros((2, 3, 1), np.uint8))[:-20]])
def test_a_png_that_is_none_or_another_is_refused(data):
    with pytest.raises(ValueError, match="PNG"):
        from_png(data, (2, 3, 1))


def test_a_png_that_would_unpack_to_more_is_not_unpacked():
    with pytest.raises(ValueError, match="not a PNG of"):
        from_png(to_png(np.zeros((500, 500, 1), np.uint8)), (2, 3, 1))


@pytest.mark.parametrize("shape", [(8, 8, 1), (28, 28, 1), (4, 4, 2)])
def test_pixels_travel_in_the_shorter_form(shape):
    for image in (np.zeros(shape, np.uint8), np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)):
        message = pixels_message(image)
        assert len(message) <= 1 + image.size
        assert np.array_equal(read_pixels(message, shape), image)


def test_pixels_of_another_shape_are_refused():
    with pytest.raises(ValueError, match="not pixels of"):
        read_pixels(pixels_message(np.zeros((2, 2, 1), np.uint8)), (3, 3, 1))


def test_levels_are_what_a_camera_gave():
    levels = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 3)).astype(np.uint8)
    reading = {"mean": np.array([3.0, 4, 5]), "std": np.array([1.0, 2, 3]), "white": 16.0}
    assert np.array_equal(to_levels(from_levels(levels, **reading), **reading), levels)


def test_the_shortest_is_taken_and_a_window_comes_apart_again():
    messages = [b"abc", b"", b"de"]
    assert shortest(messages) == b""
    assert unframed(framed(messages)) == messages
    with pytest.raises(ValueError, match="cut short"):
        unframed(framed(messages)[:-1])


@pytest.mark.parametrize("after", [0, 1, 2])
def test_the_server_goes_on_from_all_tokens_to_the_same_logits(after):
    model = model_with(SMALL, random_state(SMALL)).eval()
    samples = random_samples(SMALL, 3)
    with torch.no_grad():
        going_on = list(model.resume(model.stream(samples, after), after))
        whole = list(model.outputs_in_turn(samples))[after:]
    for (features, logits), (their_features, their_logits) in zip(going_on, whole, strict=True):
        assert torch.allclose(features, their_features, atol=1e-5)
        assert torch.allclose(logits, their_logits, atol=1e-5)


def test_a_merged_token_counts_for_all_of_its_own():
    model = model_with(SMALL, random_state(SMALL)).eval()
    x = model.stream(random_samples(SMALL, 1), 3)
    with torch.no_grad():
        x[:, 2] = x[:, 1]
        twice = model.exits[-1](x.mean(1))
        merged, sizes = x[:, [0, 1, 3, 4]], torch.tensor([[1, 2, 1, 1]])
        share = sizes / sizes.sum()
        assert torch.allclose(model.exits[-1]((merged * share[:, :, None]).sum(1)), twice, atol=1e-5)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"how": "best"}, "how must be one of"), ({"rho": 0.0}, "rho must lie in"), ({"after": -1}, "after must lie in")],
)
def test_settings_say_what_is_wrong(wrong, message):
    with pytest.raises(ValueError, match=message):
        TokenSettings(**wrong)
