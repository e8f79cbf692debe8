"""Many submodels in one pass compute what each computes alone, whatever the shape and whichever their units."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import SMALL, model_with, plans, random_samples, random_state, shapes

from cosp.models import TransformerShape
from cosp.models.lanes import Lanes
from cosp.models.transformer import Transformer
from cosp.submodel.flat import Spans, spans_of
from cosp.submodel.plan import GROUPS, BlockPlan, SubmodelPlan
from cosp.submodel.shape import layout_of
from cosp.submodel.slicing import extract


@st.composite
def alike(draw: st.DrawFn, lanes: int = 3) -> tuple[TransformerShape, list[SubmodelPlan]]:
    """A shape and plans of it that keep as many units each."""
    shape = draw(shapes())
    first = draw(plans(shape))

    def another() -> SubmodelPlan:
        blocks = []
        for block in first.blocks:
            units = {
                group: tuple(sorted(draw(st.permutations(range(shape.sizes.of(group))))[: len(getattr(block, group))]))
                for group in GROUPS
            }
            blocks.append(BlockPlan(**units, ranks=block.ranks))
        return SubmodelPlan(tuple(blocks))

    return shape, [first, *(another() for _ in range(lanes - 1))]


def vectors(shape: TransformerShape, plans_: list[SubmodelPlan]) -> torch.Tensor:
    """What each plan cuts out of a model of its own."""
    layout = layout_of(shape)
    cut = [extract(random_state(shape, seed, torch.float64), layout, plan) for seed, plan in enumerate(plans_)]
    return torch.stack([end_to_end(one, spans_of(layout, plans_[0].counts)) for one in cut])


def end_to_end(tensors: Mapping[str, torch.Tensor], spans: Spans) -> torch.Tensor:
    return torch.cat([tensors[name].reshape(-1) for name in spans])


@given(alike())
@settings(max_examples=60, deadline=None)
def test_lanes_compute_what_each_submodel_computes_and_have_its_gradients(case):
    shape, chosen = case
    lanes = Lanes(shape, chosen, vectors(shape, chosen))
    samples = torch.stack([random_samples(shape, 3, seed, torch.float64) for seed in range(len(chosen))])
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # vmap says where it has no rule and goes lane by lane
        found = lanes.compute(Transformer.forward, samples)
        lanes.backward(squares(found))
    for lane, plan in enumerate(chosen):
        model = model_with(shape, random_state(shape, lane, torch.float64), plan)
        alone = model(samples[lane])
        squares(alone).backward()
        for mine, logits in zip(alone, found, strict=True):
            torch.testing.assert_close(logits[lane], mine)
        spans = spans_of(layout_of(shape), plan.counts)
        slopes = {name: parameter.grad for name, parameter in model.named_parameters()}
        torch.testing.assert_close(lanes.gradients[lane], end_to_end(slopes, spans), rtol=1e-6, atol=1e-6)


def squares(found: Sequence[torch.Tensor]) -> torch.Tensor:
    return torch.stack([logits.square().sum() for logits in found]).sum()


def test_lanes_behind_the_first_stay_as_they_are():
    chosen = [SMALL.full_plan()] * 3
    lanes = Lanes(SMALL, chosen, vectors(SMALL, chosen))
    lanes.keep_first(2)
    samples = random_samples(SMALL, 6, dtype=torch.float64).view(3, 2, *SMALL.sample_shape)
    found = lanes.compute(Transformer.deepest, samples[:2])
    assert found.shape == (2, 2, SMALL.classes)
    lanes.backward(found.sum())
    assert lanes.gradients[:2].any(dim=1).all()
    assert not lanes.gradients[2].any()


def test_weights_of_another_length_are_refused():
    with pytest.raises(ValueError, match=r"weights must be \(1, \d+\), got \(1, 5\)"):
        Lanes(SMALL, [SMALL.full_plan()], torch.zeros(1, 5))
