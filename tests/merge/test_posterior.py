from __future__ import annotations

import pytest
import torch

from cosp.merge.aggregation import Merged
from cosp.merge.posterior import BetaPosterior


def merged(ones: float, masks: float) -> Merged:
    """``masks`` arrivals, of which ``ones`` keep the first weight; nobody tells of the second."""
    return Merged({"w": torch.tensor([ones / masks, 0.0])}, {"w": torch.tensor([masks, 0.0], dtype=torch.float64)})


def chances(step: BetaPosterior, *rounds: Merged) -> list[float]:
    state, counts = {"w": torch.zeros(2), "norm": torch.ones(1)}, {}
    found = []
    for one in rounds:
        state, counts = step.apply(state, counts, one)
        found.append(torch.sigmoid(state["w"]).tolist())
    assert state["norm"].tolist() == [1.0]
    assert {chance for _, chance in found} == {0.5}  # untouched
    return [chance for chance, _ in found]


def test_the_score_is_that_of_the_share_of_masks_with_a_one():
    step = BetaPosterior(frozenset({"w"}))
    assert chances(step, merged(3, 4)) == pytest.approx([0.75])


def test_a_posterior_that_is_reset_forgets():
    step = BetaPosterior(frozenset({"w"}), reset_rounds=1)
    assert chances(step, merged(3, 4), merged(1, 4)) == pytest.approx([0.75, 0.25])


def test_a_posterior_that_is_not_reset_counts_all_masks():
    step = BetaPosterior(frozenset({"w"}), reset_rounds=2)
    assert chances(step, merged(3, 4), merged(1, 8), merged(1, 2)) == pytest.approx([0.75, 4 / 12, 0.5])


def test_chances_stay_away_from_certainty():
    step = BetaPosterior(frozenset({"w"}), margin=0.01)
    assert chances(step, merged(4, 4), merged(0, 4)) == pytest.approx([0.99, 0.01])
