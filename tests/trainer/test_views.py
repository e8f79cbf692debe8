from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from small_models import SMALL, random_state, same_units
from torch import Tensor

from cosp.submodel.flat import flatten, spans_of, views
from cosp.submodel.matrices import block_matrices, marked
from cosp.submodel.shape import layout_of
from cosp.submodel.slicing import extract
from cosp.task.local import LocalSettings
from cosp.task.task import Task
from cosp.trainer.views import FedPM, Fiarse, Platon, View, view_of

FULL = SMALL.full_plan()
TASK = Task("train", 0, 2, 0, 1, SMALL, FULL)
ALL_FIVE = torch.ones(5, dtype=torch.bool)


def weights(plan=FULL) -> Tensor:
    layout = layout_of(SMALL)
    return flatten(extract(random_state(SMALL), layout, plan), spans_of(layout, plan.counts))


def view_for(name: str, kept: float = 1.0, plan=FULL) -> View:
    found = view_of(replace(TASK, plan=plan, local=LocalSettings(view=name, kept=kept)), weights(plan))
    assert found is not None
    return found


def shown(view: View) -> Tensor:
    into = torch.empty_like(view.trained)
    view.show(into)
    return into


def pulled(view: View, gradient: Tensor) -> Tensor:
    found = gradient.clone()
    view.pull(found)
    return found


def test_plain_training_has_no_view():
    assert view_of(TASK, weights()) is None


@pytest.mark.parametrize("name", ["scaled", "fiarse", "platon"])
def test_at_full_size_the_first_step_is_a_plain_one(name):
    assert torch.equal(shown(view_for(name)), weights())


def test_the_scaler_makes_up_for_units_that_are_not_summed():
    plan = same_units(1, heads=(1,), attention_rows=(0, 3), hidden=(2, 4), ffn_rows=(5,))
    view, spans = view_for("scaled", plan=plan), spans_of(layout_of(SMALL), plan.counts)
    factors = views(shown(view) / weights(plan), spans)
    assert factors["blocks.0.attention.out.weight"].unique().tolist() == pytest.approx([2.0])  # one head of two
    assert factors["blocks.0.ffn.down.weight"].mean().item() == pytest.approx(3.0)  # two hidden units of six
    assert factors["blocks.0.ffn.up.weight"].mean().item() == pytest.approx(1.0)
    gradient = torch.ones(len(weights(plan)))
    torch.testing.assert_close(pulled(view, gradient) * weights(plan), shown(view))


def test_fiarse_shows_the_largest_and_counts_the_slope_of_its_threshold():
    view = Fiarse(torch.tensor([1.0, -2.0, 0.5, 4.0, 3.0]), ALL_FIVE, kept=3)
    assert shown(view).tolist() == [0.0, -2.0, 0.0, 4.0, 3.0]  # threshold 2
    found = pulled(view, torch.ones(5)).tolist()
    assert found == pytest.approx([0, 1 + 4 * 2 / 16, 0, 1 + 4 * 4 / 36, 1 + 4 * 3 / 25])


def test_fiarse_sends_no_change_of_a_weight_that_was_never_on():
    view = Fiarse(torch.tensor([1.0, -2.0, 0.5, 4.0, 3.0]), ALL_FIVE, kept=2)
    received = view.trained.clone()
    shown(view)
    view.trained.mul_(0.9)  # decay
    assert view.change(received).tolist() == pytest.approx([0, 0, 0, -0.4, -0.3])


def test_a_share_of_all_weights_is_left_on():
    task, received = replace(TASK, local=LocalSettings(view="fiarse", kept=0.5)), weights()
    view = view_of(task, received)
    assert int((shown(view) != 0).sum()) == round(0.5 * received.numel())
    fixed = ~marked(SMALL, FULL.counts, block_matrices)
    assert torch.equal(shown(view)[fixed], received[fixed])


def test_platon_by_hand():
    """Two steps with gradients 1 and 3 on a weight of 2."""
    view = Platon(torch.tensor([2.0, 1.0]), torch.tensor([True, True]), kept=1)
    shown(view)
    view.pull(torch.tensor([1.0, 0.5]))
    assert view.sensitivity.tolist() == pytest.approx([0.15 * 2, 0.15 * 0.5])
    assert view.uncertainty.tolist() == pytest.approx([0.05 * 1.7, 0.05 * 0.425])
    assert shown(view).tolist() == [2.0, 0.0]
    view.pull(torch.tensor([3.0, 9.0]))
    sensitivity = 0.85 * 0.3 + 0.15 * 6
    assert view.sensitivity[0].item() == pytest.approx(sensitivity)
    assert view.uncertainty[0].item() == pytest.approx(0.95 * 0.085 + 0.05 * (6 - sensitivity))


def test_platon_sends_no_change_of_weights_that_it_has_pruned():
    view = Platon(torch.tensor([2.0, 1.0]), torch.tensor([True, True]), kept=1)
    received = view.trained.clone()
    view.pull(torch.tensor([1.0, 0.5]))
    shown(view)
    assert view.change(received).tolist() == [0.0, 0.0]
    assert view.trained.tolist() == [2.0, 0.0]


def fedpm(scores: list[float]) -> FedPM:
    received, maskable = torch.tensor([*scores, 7.0]), torch.tensor([True] * len(scores) + [False])
    signed = torch.tensor([0.5, -0.5] * len(scores))[: len(scores) + 1]
    return FedPM(received, maskable, signed, torch.Generator().manual_seed(0))


def test_fedpm_shows_frozen_weights_as_often_as_their_chances_say():
    view = fedpm([2.0, -1.0])
    draws = torch.stack([shown(view) for _ in range(4000)])
    assert set(draws[:, 0].tolist()) == {0.0, 0.5}
    assert set(draws[:, 1].tolist()) == {0.0, -0.5}
    expected = torch.sigmoid(torch.tensor([2.0, -1.0])) * torch.tensor([0.5, -0.5])
    torch.testing.assert_close(draws.mean(0)[:2], expected, rtol=0, atol=0.02)
    assert set(draws[:, 2].tolist()) == {7.0}  # not maskable: as received


def test_fedpm_sends_bits_and_its_gradient_passes_straight_through_the_draw():
    view = fedpm([2.0, -1.0])
    assert set(view.change(torch.zeros(3)).tolist()) <= {0.0, 1.0}
    p = torch.sigmoid(torch.tensor([2.0, -1.0]))
    expected = torch.cat([torch.tensor([0.5, -0.5]) * p * (1 - p), torch.zeros(1)])
    torch.testing.assert_close(pulled(view, torch.ones(3)), expected)
