from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from small_models import SMALL, model_with, random_images, random_state, shapes_and_plans
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from cosp.models.vit import POOLINGS, VisionTransformer, ViTShape
from cosp.submodel.footprint import footprint
from cosp.submodel.plan import prefix_plan

FASHION = ViTShape(image=28, patch=7, channels=1, classes=10, dim=64, blocks=4, heads=4, hidden=256, exits=(1, 2, 3, 4))


def counted_flops(model: VisionTransformer, batch: int) -> int:
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:  # other attention kernels hide from the counter
        model(random_images(model.shape, batch))
    return counter.get_total_flops()


def saved_bytes(model: VisionTransformer, batch: int) -> int:
    """Bytes of the storages that autograd holds between forward and backward, parameters and indices apart."""
    known = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    held: list[torch.Tensor] = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        held.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        logits = model(random_images(model.shape, batch))
        sum(F.cross_entropy(z, torch.zeros(batch, dtype=torch.int64)) for z in logits)
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in held}
    return sum(size for pointer, size in storages.items() if pointer not in known)


@settings(max_examples=30)
@given(shapes_and_plans())
def test_parameters_are_those_of_the_module(shape_and_plan):
    shape, plan = shape_and_plan
    module = VisionTransformer(shape, plan)
    assert footprint(shape, plan.counts).parameters == sum(parameter.numel() for parameter in module.parameters())


@settings(max_examples=20)
@given(shapes_and_plans())
def test_forward_flops_are_what_torch_counts(shape_and_plan):
    shape, plan = shape_and_plan
    model = model_with(shape, random_state(shape), plan)
    assert 3 * footprint(shape, plan.counts).forward_flops == counted_flops(model, batch=3)


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize(("width", "depth"), [(1.0, 4), (1.0, 1), (0.5, 4), (0.25, 2)])
def test_activations_are_what_autograd_saves(width, depth, pooling):
    shape = replace(FASHION, pooling=pooling)
    plan = prefix_plan(shape.sizes.scaled(width), depth)
    model = model_with(shape, random_state(shape), plan)
    predicted = 8 * footprint(shape, plan.counts).activation_bytes
    assert predicted == pytest.approx(saved_bytes(model, batch=8), rel=0.01)


def test_training_memory_by_hand():
    cost = footprint(SMALL, SMALL.full_plan().counts)
    adamw = 4 * cost.parameters * 5  # weights, received weights, gradients, two moments
    assert cost.training_bytes(7, "adamw") == adamw + 7 * cost.activation_bytes
    assert cost.training_bytes(7, "sgd") == adamw - 4 * cost.parameters + 7 * cost.activation_bytes
    assert cost.scoring_bytes(7) == 4 * cost.parameters + 7 * cost.activation_bytes


def test_a_training_step_is_three_forward_passes():
    cost = footprint(SMALL, SMALL.full_plan().counts)
    assert cost.step_flops(5) == 15 * cost.forward_flops


@given(shapes_and_plans())
def test_no_submodel_costs_more_than_the_blocks_it_is_cut_from(shape_and_plan):
    shape, plan = shape_and_plan
    part, whole = footprint(shape, plan.counts), footprint(shape, shape.full_plan(plan.depth).counts)
    assert part.parameters <= whole.parameters
    assert part.forward_flops <= whole.forward_flops
