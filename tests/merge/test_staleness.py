from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosp.merge.staleness import Arrival, WeightRule, constant, drift, hinge, polynomial


def arrival(
    *,
    staleness: int = 0,
    waited: int = 1,
    samples: int = 100,
    keep: float = 1.0,
    delta: float = 0.0,
    drifted: float = 0.0,
):
    norms = {"delta_l1": lambda: delta, "drift_l1": lambda: drifted}
    return Arrival(staleness=staleness, waited=waited, samples=samples, keep=keep, **norms)


def weights(rule: WeightRule, *staleness: int) -> list[float]:
    return [rule(arrival(staleness=s)) for s in staleness]


def test_a_constant_weight_is_the_sample_count():
    assert weights(constant(), 0, 1, 9) == [100, 100, 100]


def test_polynomial_weights_by_hand():
    assert weights(polynomial(0.5), 0, 3, 8) == pytest.approx([100, 50, 100 / 3])
    assert weights(polynomial(1.0), 0, 1, 3) == pytest.approx([100, 50, 25])
    assert weights(polynomial(0.0), 0, 7) == [100, 100]


def test_who_is_heard_every_fourth_version_counts_as_much_as_who_is_heard_at_each():
    rule = polynomial(exponent=0.0, participation=1.0)
    assert rule(arrival(staleness=3, waited=4)) == sum(rule(arrival(waited=1)) for _ in range(4))


def test_hinge_weights_by_hand():
    assert weights(hinge(slope=0.5, grace=2), 0, 2, 3, 4) == pytest.approx([100, 100, 100 / 1.5, 50])


def test_drift_weights_by_hand():
    found = drift()(arrival(samples=1, staleness=9, keep=0.25, delta=3.0, drifted=5.0))
    assert found == pytest.approx(3.0 / 0.25 / 6.0)
    assert drift()(arrival(samples=10**6, keep=0.25, delta=3.0, drifted=5.0)) == found


@given(st.sampled_from([constant(), polynomial(), hinge()]), st.integers(0, 100), st.integers(1, 1000))
def test_age_never_adds_weight_and_never_takes_all(rule, staleness, samples):
    younger, older = (rule(arrival(staleness=s, samples=samples)) for s in (staleness, staleness + 1))
    assert 0 < older <= younger <= samples


def test_norms_are_computed_for_the_drift_rule_only():
    def never() -> float:
        raise AssertionError("a norm was asked for")

    unread = Arrival(staleness=1, waited=1, samples=2, keep=1.0, delta_l1=never, drift_l1=never)
    assert [rule(unread) for rule in (constant(), hinge())] == [2.0, 2.0]
    assert polynomial()(unread) == pytest.approx(2 / 2**0.5)


def test_negative_settings_are_refused():
    with pytest.raises(ValueError, match="exponent must be >= 0, got -1"):
        polynomial(-1)
    with pytest.raises(ValueError, match="participation must be >= 0, got -2"):
        polynomial(participation=-2)
    with pytest.raises(ValueError, match="slope and grace"):
        hinge(slope=-0.1)
    with pytest.raises(ValueError, match="slope and grace"):
        hinge(grace=-1)
