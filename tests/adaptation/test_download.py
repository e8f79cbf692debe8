"""What boards are sent: both sides come to the same bits, or the board says that it cannot."""

from __future__ import annotations

from contextlib import suppress
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosp.adaptation.acknowledged import Acknowledged
from cosp.adaptation.download import (
    HEADER,
    DownloadSettings,
    Held,
    UnknownBase,
    change_message,
    form_of,
    norms_message,
    received,
    whole_message,
)
from cosp.adaptation.parts import marked_entries, names_of
from cosp.submodel.flat import flatten, length, spans_of
from cosp.submodel.shape import layout_of
from tests.small_models import SMALL, random_state

LAYOUT = layout_of(SMALL)
SPANS = spans_of(LAYOUT, SMALL.full_plan().counts)
TOTAL = length(SPANS)
ALL = DownloadSettings()
FORM = form_of(LAYOUT, SPANS, ALL)


def weights(seed: int) -> np.ndarray:
    return flatten(random_state(SMALL, seed), SPANS).numpy()


def halves(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float16).astype(np.float32)


def after(message: bytes | None, held: Held | None, form=FORM) -> Held:
    assert message is not None
    return received(message, held, form)


def test_the_whole_is_halves_and_takes_two_bytes_a_weight():
    message = whole_message(3, weights(0))
    held = received(message, None, FORM)
    assert (held.version, len(message)) == (3, HEADER.size + 2 * TOTAL)
    assert np.array_equal(held.weights, halves(weights(0)))


def test_norms_alone_change_by_their_message():
    held = Held(0, weights(0))
    message = norms_message(held, 1, weights(1), FORM)
    found = received(message, held, FORM)
    norms = marked_entries(SPANS, names_of(LAYOUT, ("norms",)))
    assert len(message) == HEADER.size + 2 * norms.sum()
    assert np.array_equal(found.weights[norms], halves(weights(1))[norms])
    assert np.array_equal(found.weights[~norms], weights(0)[~norms])


@settings(max_examples=20)
@given(st.integers(0, 50), st.lists(st.integers(HEADER.size, 1500), min_size=2, max_size=5))
def test_a_change_is_as_long_as_its_budget_at_most_and_comes_nearer_with_it(seed, budgets):
    held, target = Held(0, weights(seed)), weights(seed) + 0.01 * weights(seed + 1)
    distances = []
    for budget in sorted(budgets):
        message = change_message(held, 1, target, FORM, budget)
        assert message is None or len(message) <= budget
        found = held if message is None else received(message, held, FORM)
        distances.append(float(((found.weights.astype(float) - target) ** 2).sum()))
    assert all(later <= sooner * (1 + 1e-6) for sooner, later in pairwise(distances))


def test_what_a_change_leaves_is_in_the_next_one():
    held, target = Held(0, weights(0)), weights(1)
    for version in range(1, 40):
        message = change_message(held, version, target, FORM, 400)
        if message is None:
            break
        held = received(message, held, FORM)
    assert np.abs(held.weights - target).max() < 0.01


def test_an_equal_model_sends_nothing():
    assert change_message(Held(0, weights(0)), 1, weights(0), FORM, 10_000) is None


def test_a_change_leaves_other_parts_alone():
    form = form_of(LAYOUT, SPANS, DownloadSettings(parts=("norms", "heads")))
    held = Held(0, weights(0))
    found = after(change_message(held, 1, weights(1), form, 10_000), held, form)
    mine = marked_entries(SPANS, names_of(LAYOUT, ("norms", "heads")))
    assert np.array_equal(found.weights[~mine], weights(0)[~mine])
    assert np.abs(found.weights[mine] - weights(1)[mine]).max() < 0.02


def test_a_change_of_another_version_or_other_weights_is_an_unknown_base():
    message = change_message(Held(4, weights(0)), 5, weights(1), FORM, 300)
    assert message is not None
    for held in (None, Held(3, weights(0)), Held(4, weights(2))):
        with pytest.raises(UnknownBase):
            received(message, held, FORM)


@given(st.binary(max_size=120))
def test_bytes_from_nowhere_are_refused(data):
    with pytest.raises((ValueError, UnknownBase)):
        received(data, Held(0, weights(0)), FORM)


MESSAGE = change_message(Held(0, weights(0)), 1, weights(1), FORM, 300) or b""
MESSAGE_AFTER = after(MESSAGE, Held(0, weights(0))).weights


@given(st.integers(0, 400), st.integers(0, 7))
def test_a_flipped_bit_is_found_out(place, bit):
    held = Held(0, weights(0))
    message = bytearray(MESSAGE)
    place = 5 + place % (len(message) - 5)  # behind kind and version
    message[place] ^= 1 << bit
    with suppress(ValueError, UnknownBase):  # it may be a bit that nobody reads
        assert np.array_equal(received(bytes(message), held, FORM).weights, MESSAGE_AFTER)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"how": "zip"}, "how must be one of"),
        ({"parts": ("noses",)}, "got 'noses'"),
        ({"parts": ()}, "got 'none'"),
        ({"share": 0.0}, "share must lie in"),
        ({"most_bytes": 10}, "most_bytes must be >= 64"),
    ],
)
def test_settings_say_what_is_wrong(wrong, message):
    with pytest.raises(ValueError, match=message):
        DownloadSettings(**wrong)


def test_the_least_of_all_limits_is_the_budget():
    asked = DownloadSettings(share=0.01, most_bytes=500)
    assert asked.budget_bytes(10_000) == 200
    assert asked.budget_bytes(100_000) == 500
    assert asked.budget_bytes(100_000, link_bytes=77.9) == 77


def test_a_board_is_sent_the_whole_first_and_changes_once_it_has_it():
    server = Acknowledged(ALL, FORM)
    first = server.next_message(7, 1, weights(0))
    assert first is not None
    assert first.bytes == HEADER.size + 2 * TOTAL
    assert server.acknowledge(7, 1)
    second = server.next_message(7, 2, weights(1), link_bytes=200)
    assert second is not None
    assert second.bytes <= 200
    board = received(second.message, received(first.message, None, FORM), FORM)
    assert np.array_equal(board.weights, second.after.weights)


def test_a_board_that_never_acknowledges_is_sent_the_whole_again():
    server = Acknowledged(ALL, FORM)
    for version in (1, 2):
        sent = server.next_message(7, version, weights(version))
        assert sent is not None
        assert sent.bytes == HEADER.size + 2 * TOTAL


def test_a_board_that_has_another_version_is_forgotten():
    server = Acknowledged(ALL, FORM)
    server.next_message(7, 1, weights(0))
    assert not server.acknowledge(7, 3)
    assert 7 not in server.held


def test_boards_with_one_history_share_a_message_and_a_vector():
    server = Acknowledged(ALL, FORM)
    found = [server.next_message(board, 1, weights(0)) for board in range(3)]
    assert found[0] is found[1] is found[2]
    for board in range(3):
        server.acknowledge(board, 1)
    assert server.held[0] is server.held[2]
    assert server.next_message(0, 2, weights(1)) is server.next_message(2, 2, weights(1))
