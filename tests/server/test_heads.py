"""Gathering the boards' moments: who gives which, what comes of them, what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small_models import SMALL
from torch import Tensor

from cosp.errors import ConfigError, RefusedUpdate
from cosp.merge.ridge import Moments, fitted_head
from cosp.server.heads import HeadFit
from cosp.submodel.footprint import footprint
from cosp.submodel.plan import SubmodelPlan
from cosp.task.moments import from_vector, moments_bytes, to_vector

FULL = SMALL.full_plan()


def needs(depth: int, batch: int = 1) -> int:
    plan = SubmodelPlan(FULL.blocks[:depth])
    return moments_bytes(SMALL, footprint(SMALL, plan.counts), batch)


def features(samples: int, seed: int, exit_: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(10 * seed + exit_)
    x = torch.randn(samples, SMALL.dim, generator=generator, dtype=torch.float64)
    return torch.cat([x, torch.ones(samples, 1)], 1), torch.eye(3, dtype=torch.float64)[torch.arange(samples) % 3]


def moments(samples: int, depth: int = 3, seed: int = 0) -> Tensor:
    found = [features(samples, seed, i) for i in range(depth)]
    return to_vector([(z.T @ z, z.T @ y) for z, y in found])


def test_a_board_sums_as_deep_as_its_memory_holds_the_trunk():
    fit = HeadFit(SMALL, FULL, SMALL.exits)
    for depth in SMALL.exits:
        reach = fit.reach(needs(depth))
        assert reach is not None
        assert (reach.plan.depth, reach.batch) == (depth, 1)
    assert fit.reach(needs(1) - 1) is None
    most = fit.reach(10**9)
    assert most is not None
    assert (most.plan, most.batch) == (FULL, 250)


def test_nobody_goes_beyond_the_exits_that_want_a_head():
    reach = HeadFit(SMALL, FULL, (1, 2)).reach(10**9)
    assert reach is not None
    assert reach.plan.depth == 2


def test_exits_that_no_board_gets_to_are_named_and_refused_if_all():
    fit = HeadFit(SMALL, FULL, SMALL.exits)
    assert fit.unreached([(needs(1), None), (10**9, None)]) == ()
    assert fit.unreached([(needs(1), None), (needs(2), None)]) == (3,)
    with pytest.raises(ConfigError, match=r"model.heads: ridge: no board holds the trunk up to the exit after block 1"):
        fit.unreached([(needs(1) - 1, None)])


def test_each_exit_is_fitted_to_the_sums_of_all_who_get_to_it():
    fit = HeadFit(SMALL, FULL, SMALL.exits)
    fit.take(0, 3, moments(20, seed=1), 20)
    fit.take(1, 1, moments(30, depth=1, seed=2), 30)
    assert fit.clients == {0, 1}
    state, told = fit.fitted({})
    assert [row["clients"] for row in told["exits"]] == [2, 1, 1]
    assert [row["samples"] for row in told["exits"]] == [50, 20, 20]
    parts = [from_vector(moments(20, seed=1), SMALL, 3)[0], from_vector(moments(30, 1, seed=2), SMALL, 1)[0]]
    both = [Moments(squares.numpy(), classes.numpy()) for squares, classes in parts]
    head = fitted_head(both[0] + both[1])
    assert np.allclose(state["exits.0.head.weight"].numpy(), head.weight, rtol=1e-5)
    assert np.allclose(state["exits.0.head.bias"].numpy(), head.bias, rtol=1e-5, atol=1e-6)
    assert sorted(state) == [f"exits.{i}.head.{part}" for i in range(3) for part in ("bias", "weight")]


def test_a_head_that_nobody_gets_to_stays_as_it_is():
    fit = HeadFit(SMALL, FULL, SMALL.exits)
    fit.take(0, 1, moments(20, depth=1), 20)
    drawn = torch.full((3, SMALL.dim), 7.0)
    state, told = fit.fitted({"exits.2.head.weight": drawn})
    assert state["exits.2.head.weight"] is drawn
    assert told["exits"][2] == {"after": 3, "clients": 0}


@pytest.mark.parametrize(
    ("vector", "samples"),
    [(moments(20)[1:], 20), (moments(20).index_fill(0, torch.tensor([4]), torch.nan), 20), (moments(20), 21)],
)
def test_what_are_no_moments_of_so_many_samples_is_refused(vector: Tensor, samples: int):
    fit = HeadFit(SMALL, FULL, SMALL.exits)
    with pytest.raises(RefusedUpdate, match="moments"):
        fit.take(0, 3, vector, samples)
    assert not fit.clients
