from __future__ import annotations

import math

import pytest
import torch

from cosp.merge.clipping import FEWEST, Clip, NormBound, norm_of


def bound(*norms: float, factor: float = 8.0) -> NormBound:
    return NormBound(Clip(factor=factor), norms)


def never() -> float:
    raise AssertionError("the weights were looked at")


def test_the_norm_is_a_parameter_s_and_no_size_of_submodel_changes_it():
    assert norm_of([torch.full((3,), 2.0), torch.full((5, 7), 2.0)]) == pytest.approx(2.0)
    assert norm_of([torch.tensor([3.0, 0.0]), torch.tensor([0.0, 4.0])]) == pytest.approx(2.5)
    assert norm_of([]) == 0.0


def test_a_norm_that_no_float32_can_square_is_a_number():
    assert norm_of([torch.full((4,), 1e38)]) == pytest.approx(1e38)


def test_what_is_ordinary_is_not_scaled():
    for norm in (0.0, 0.5, 1.0, 7.9, 8.0):
        assert bound(*[1.0] * FEWEST).scale_of(norm, never) == 1.0


def test_what_is_out_of_bounds_becomes_the_median():
    assert bound(0.5, 1.0, 1.0, 1.0, 2.0).scale_of(1000.0, never) == pytest.approx(1 / 1000)


def test_at_first_an_update_may_be_as_large_as_the_weights():
    young = bound(*[1.0] * (FEWEST - 1))
    assert young.scale_of(0.3, lambda: 0.4) == 1.0
    assert young.scale_of(0.8, lambda: 0.4) == 0.5


def test_updates_of_nothing_bind_nobody():
    assert bound(*[0.0] * FEWEST).scale_of(0.3, lambda: 0.4) == 1.0


def test_a_few_large_ones_hardly_move_the_bound():
    running = bound(*[1.0] * FEWEST)
    for _ in range(FEWEST - 1):
        running.note(running.scale_of(1e30, never) * 1e30)
    assert running.scale_of(8.0, never) == 1.0
    assert running.scale_of(8.1, never) < 1


@pytest.mark.parametrize("factor", [1.0, 0.0, -1.0, math.nan])
def test_a_bound_below_the_ordinary_is_refused(factor: float):
    with pytest.raises(ValueError, match="factor must be > 1"):
        Clip(factor=factor)
