"""What goes up: rules, budgets, filters."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosp.adaptation.upload import (
    RULES,
    Choice,
    Seen,
    UploadSettings,
    choose,
    disagreement,
    entropy,
    moved_high,
)

NOTHING = Seen()
BUDGETED = [rule for rule in RULES if rule != "none"]


def predictions(seed: int, count: int = 40, exits: int = 3, classes: int = 5) -> np.ndarray:
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 3, (exits, count, classes)) * rng.random((1, count, 1))
    raised = np.exp(logits)
    return raised / raised.sum(-1, keepdims=True)


def chosen(settings: UploadSettings, probabilities: np.ndarray, seen: Seen = NOTHING, seed: int = 0) -> Choice:
    costs = np.full(probabilities.shape[1], 10)
    return choose(settings, seen, probabilities, costs, np.random.default_rng(seed))[0]


def two_classes(*sure: float) -> np.ndarray:
    p = np.array(sure)
    return np.stack([p, 1 - p], axis=-1)[None]


def test_entropy_is_a_share_of_its_most():
    assert entropy(np.array([0.25] * 4)) == pytest.approx(1.0)
    assert entropy(np.array([1.0, 0, 0, 0])) == pytest.approx(0.0, abs=1e-9)


def test_exits_that_agree_do_not_disagree():
    p = predictions(0, exits=1)
    assert disagreement(np.concatenate([p, p])) == pytest.approx(np.zeros(40))
    assert not disagreement(p).any()


def test_each_rule_takes_what_it_says():
    p = two_classes(0.999, 0.95, 0.8, 0.5)  # entropies about 0.01, 0.29, 0.72, 1
    band = UploadSettings(rule="entropy_band", low=0.02, high=0.8)
    assert chosen(UploadSettings(rule="none"), p).rows.tolist() == []
    assert chosen(UploadSettings(rule="all"), p).rows.tolist() == [0, 1, 2, 3]
    assert chosen(band, p).rows.tolist() == [1, 2]
    assert chosen(UploadSettings(rule="tail", sure=0.9), p).rows.tolist() == [2, 3]


def test_disagreement_takes_what_exits_contradict_most():
    deep = two_classes(0.9, 0.9, 0.9)
    shallow = two_classes(0.9, 0.1, 0.5)
    settings = UploadSettings(rule="disagreement", samples=1, disagreeing=0.01)
    assert chosen(settings, np.concatenate([shallow, deep])).rows.tolist() == [1]


@given(st.integers(0, 99), st.sampled_from(BUDGETED), st.integers(1, 50))
def test_filled_every_rule_sends_the_same_bytes(seed, rule, samples):
    settings = UploadSettings(rule=rule, samples=samples, fill=True)
    assert len(chosen(settings, predictions(seed)).rows) == min(samples, 40)


@given(st.integers(0, 99), st.sampled_from(RULES), st.integers(10, 500))
def test_bytes_stay_in_the_budget_and_grow_with_it(seed, rule, most):
    p, costs = predictions(seed), np.random.default_rng(seed).integers(1, 90, 40)
    found = [
        choose(UploadSettings(rule=rule, most_bytes=limit), Seen(), p, costs, np.random.default_rng(1))[0].rows
        for limit in (most, 2 * most)
    ]
    assert costs[found[0]].sum() <= most
    assert set(found[0]) <= set(found[1])


def test_what_fills_is_behind_what_is_wanted():
    p = two_classes(0.5, 0.999, 0.95, 0.8)
    settings = UploadSettings(rule="entropy_band", low=0.02, high=0.8, samples=3, fill=True)
    assert chosen(settings, p).rows.tolist() == [1, 2, 3]  # 0.999 lies nearer to the band than 0.5


def test_random_is_any_of_them_and_the_same_from_the_same_seed():
    settings = UploadSettings(rule="random", samples=5)
    p = predictions(0)
    assert chosen(settings, p, seed=1).rows.tolist() == chosen(settings, p, seed=1).rows.tolist()
    assert len({tuple(chosen(settings, p, seed=seed).rows) for seed in range(9)}) > 5


def test_the_threshold_moves_with_the_mean_entropy_once_it_is_warm():
    settings = UploadSettings(moving=1.0, warm_samples=4, high=0.4)
    assert moved_high(settings, Seen(samples=3, entropies=2.0)) == 0.4
    assert moved_high(settings, Seen(samples=8, entropies=1.6, warm_mean=0.4)) == pytest.approx(0.2)


def test_a_board_remembers_what_it_saw():
    settings, p = UploadSettings(rule="all", moving=0.5, warm_samples=50), predictions(3)
    seen = Seen()
    for _ in range(3):
        _, seen = choose(settings, seen, p, np.ones(40), np.random.default_rng(0))
    mean = float(entropy(p[-1]).mean())
    assert (seen.samples, seen.entropies) == (120, pytest.approx(120 * mean))
    assert seen.warm_mean == pytest.approx(mean)
    assert seen.sent_mean == pytest.approx(tuple(p[-1].mean(0)))


def test_samples_like_those_sent_before_are_redundant():
    p = two_classes(0.99, 0.02, 0.5)
    settings = UploadSettings(rule="all", redundant=0.9)
    found = chosen(settings, p, Seen(sent_mean=(1.0, 0.0)))
    assert (found.rows.tolist(), found.dropped) == ([1, 2], 1)


def test_a_collapsed_window_is_not_sent():
    settings = UploadSettings(rule="all", collapsed=0.2)
    assert chosen(settings, two_classes(0.999, 0.99, 0.999)).collapsed
    assert not chosen(settings, two_classes(0.999, 0.01)).collapsed


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rule": "best"}, "rule must be one of"),
        ({"low": 0.5, "high": 0.4}, "low and high must ascend"),
        ({"samples": 0}, "samples must be >= 1"),
        ({"sure": 0.0}, "sure must lie in"),
        ({"moving": 0.0}, "moving must be > 0"),
        ({"disagreeing": -1.0}, "disagreeing must be >= 0"),
        ({"fill": True}, "fill takes a budget"),
    ],
)
def test_settings_say_what_is_wrong(settings, message):
    with pytest.raises(ValueError, match=message):
        UploadSettings(**settings)


def test_a_budget_below_one_sample_is_named():
    with pytest.raises(ValueError, match="must hold a sample, which takes 64, got 63"):
        UploadSettings(most_bytes=63).check_budget(64)
