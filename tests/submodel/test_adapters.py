"""Adapters: what they compute, how they are cut and folded, and what a step with them costs, held against torch."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import (
    BERT_TRUNK,
    FASHION,
    NEWS,
    SENTENCES,
    SMALL,
    model_with,
    random_samples,
    random_state,
    random_update,
    shapes_and_plans,
)
from submodel_work import (
    assert_peak,
    counted_flops,
    evaluation,
    model_of,
    saved_bytes,
    scoring,
    tally_of_a_step,
    training,
    whole_trunk,
)

from cosp.models import TransformerShape, ViTShape, shape_from_json, shape_to_json
from cosp.submodel.adapters import PROJECTIONS, Adapters
from cosp.submodel.footprint import footprint
from cosp.submodel.frozen import NOTHING, Frozen
from cosp.submodel.low_rank import drawn, folded, norm_of_products, products, without_ranks
from cosp.submodel.plan import BLOCK_GROUPS, BlockPlan, SubmodelPlan, prefix_plan, wire_bytes
from cosp.submodel.shape import layout_of
from cosp.submodel.slicing import extract, scatter

TRUNK = Frozen(trunk=True)
USUAL = Adapters(rank=4)
ALL = Adapters(rank=2, projections=PROJECTIONS)
ADAPTED = replace(SMALL, adapters=ALL)


def bare(shape: Any) -> Any:
    return replace(shape, adapters=None)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"rank": 0}, "rank must be a whole number of at least 1, got 0"),
        ({"rank": True}, "rank must be a whole number of at least 1, got True"),
        (
            {"projections": ("queries",)},
            "projections must name some of query, key, value, output, up, down, got 'queries'",
        ),
        ({"projections": ()}, "projections must name some of query, key, value, output, up, down, got none"),
        ({"projections": ("up", "up")}, "projections names one twice: up, up"),
    ],
)
def test_wrong_adapters_are_named(given: dict[str, Any], said: str):
    with pytest.raises(ValueError, match=f"^{said}$"):
        Adapters(**given)


def test_a_rank_above_that_of_the_weights_is_refused():
    with pytest.raises(ValueError, match=r"adapters\.rank must be at most 6, the rank of up's 6 x 8 weights, got 7"):
        replace(SMALL, adapters=Adapters(rank=7))


def test_the_order_of_projections_is_ours():
    assert Adapters(projections=("up", "query")) == Adapters(projections=("query", "up"))


def test_a_shape_without_adapters_is_written_as_ever():
    assert "adapters" not in shape_to_json(SMALL)
    assert shape_from_json(json.loads(json.dumps(shape_to_json(ADAPTED)))) == ADAPTED


def test_ranks_are_a_group_of_a_block_that_takes_nothing_where_there_are_none():
    plan, adapted = SMALL.full_plan(), ADAPTED.full_plan()
    assert plan.blocks[0].ranks == ()
    assert adapted.blocks[0].ranks == (0, 1)
    assert without_ranks(adapted) == plan
    assert "ranks" not in plan.to_json()
    assert SubmodelPlan.from_json(adapted.to_json()) == adapted
    assert wire_bytes(ADAPTED.sizes, 3) == wire_bytes(SMALL.sizes, 3) + 3
    assert len(plan.to_bytes(SMALL.sizes)) == wire_bytes(SMALL.sizes, 3)
    for ranks in ((), (1,), (0, 1)):
        some = SubmodelPlan(tuple(replace(block, ranks=ranks) for block in adapted.blocks))
        assert SubmodelPlan.from_bytes(some.to_bytes(ADAPTED.sizes), ADAPTED.sizes) == some


@st.composite
def adapted_plans(draw: st.DrawFn) -> tuple[TransformerShape, SubmodelPlan]:
    """A model with adapters and a plan that keeps any of its ranks, none too."""
    shape, plan = draw(shapes_and_plans())
    most = min(shape.dim, shape.hidden, 3)
    on = draw(st.sets(st.sampled_from(PROJECTIONS), min_size=1))
    adapters = Adapters(rank=draw(st.integers(1, most)), projections=tuple(on))
    ranks = st.sets(st.integers(0, adapters.rank - 1)).map(lambda some: tuple(sorted(some)))
    changed: Any = shape
    blocks = tuple(replace(block, ranks=draw(ranks)) for block in plan.blocks)
    return replace(changed, adapters=adapters), SubmodelPlan(blocks)


@given(adapted_plans())
def test_all_ranks_are_the_whole_model_and_scatter_undoes_extract(shape_and_plan):
    shape, plan = shape_and_plan
    layout, state = layout_of(shape), random_state(shape)
    whole = extract(state, layout, shape.full_plan())
    assert all(whole[name] is state[name] for name in layout)
    part, zeros = random_update(shape, plan, seed=1), {name: torch.zeros(e.shape) for name, e in layout.items()}
    back = extract(scatter(part, layout, plan, zeros), layout, plan)
    assert all(torch.equal(back[name], part[name]) for name in part)
    assert footprint(shape, plan.counts).parameters == sum(tensor.numel() for tensor in part.values())


@settings(deadline=None)
@given(adapted_plans())
def test_folded_weights_compute_what_adapters_do(shape_and_plan):
    """Of a narrow plan too: the ranks that it keeps are those that its fold has."""
    shape, plan = shape_and_plan
    state = random_state(shape, dtype=torch.float64)
    kept = [place for block in plan.blocks for place in block.ranks]
    one = SubmodelPlan(tuple(replace(block, ranks=plan.blocks[0].ranks) for block in plan.blocks))
    for name, entry in layout_of(shape).items():
        if entry.adapter:  # what the plan leaves out is zero
            left = [rank for rank in range(shape.sizes.ranks) if rank not in one.blocks[0].ranks]
            state[name].index_fill_(0 if name.endswith(".a") else 1, torch.tensor(left, dtype=torch.int64), 0.0)
    plain, without = folded(state, shape)
    samples = random_samples(shape, 3, dtype=torch.float64)
    with torch.no_grad():
        wanted, got = model_with(shape, state, one)(samples), model_with(without, plain, without_ranks(one))(samples)
    assert without == bare(shape)
    assert len(kept) <= sum(len(block.ranks) for block in shape.full_plan().blocks)
    for ours, theirs in zip(wanted, got, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("shape", [FASHION, SENTENCES, replace(SENTENCES, pooling="class", trunk=BERT_TRUNK)])
@pytest.mark.parametrize("on", [USUAL.projections, PROJECTIONS, ("key",), ("output", "down")])
@pytest.mark.parametrize("width", [1.0, 0.5])
def test_fresh_adapters_change_no_bit(shape, on, width):
    adapted = replace(shape, adapters=Adapters(rank=4, projections=on))
    state = random_state(shape)
    plan = prefix_plan(adapted.sizes.scaled(width), shape.blocks)
    samples = random_samples(shape, 5)
    with torch.no_grad():
        plain = model_with(shape, state, without_ranks(plan))(samples)
        beside = model_with(adapted, {**state, **drawn(adapted, seed=0)}, plan)(samples)
    assert all(torch.equal(one, other) for one, other in zip(plain, beside, strict=True))


def test_fresh_adapters_are_drawn_from_the_seed_by_name():
    large = replace(FASHION, adapters=Adapters(rank=32, projections=PROJECTIONS))
    first, again, other = drawn(large, 0), drawn(large, 0), drawn(large, 1)
    assert first.keys() == {name for name, entry in layout_of(large).items() if entry.adapter}
    assert all(torch.equal(first[name], again[name]) for name in first)
    for name, tensor in first.items():
        if name.endswith(".b"):
            assert not tensor.any()
        else:
            assert not torch.equal(tensor, other[name])
            assert float(tensor.var()) == pytest.approx(1 / tensor.shape[1], rel=0.15)
    some = drawn(replace(large, adapters=Adapters(rank=32, projections=("up",))), 0)
    assert all(torch.equal(tensor, first[name]) for name, tensor in some.items())


def test_the_norm_of_products_is_that_of_the_full_ones():
    state = random_state(ADAPTED)
    slow = sum(float(product.double().square().sum()) for product in products(state, ADAPTED).values()) ** 0.5
    assert norm_of_products(state, ADAPTED) == pytest.approx(slow, rel=1e-6)
    assert norm_of_products(drawn(ADAPTED, 0), ADAPTED) == 0.0


def test_a_step_of_full_rank_is_a_step_of_the_weights():
    """A square orthogonal A that stays, and B trained by plain descent: B A moves as W would, d(BA) = dW AT A = dW."""
    square = ViTShape(image=4, patch=2, channels=1, classes=3, dim=8, blocks=3, heads=2, hidden=8, exits=(1, 2, 3))
    shape = replace(square, adapters=Adapters(rank=8, projections=PROJECTIONS))
    state = {**random_state(square, dtype=torch.float64), **{n: t.double() for n, t in drawn(shape, 0).items()}}
    for name in state:
        if name.endswith(".a"):
            state[name] = torch.linalg.qr(state[name])[0]
    samples, labels = random_samples(shape, 6, dtype=torch.float64), torch.tensor([0, 1, 2, 0, 1, 2])

    def after_a_step(model: torch.nn.Module, moves: Any) -> dict[str, torch.Tensor]:
        sum(F.cross_entropy(logits, labels) for logits in model(samples)).backward()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if moves(name):
                    parameter -= 0.1 * parameter.grad
        return {name: parameter.detach() for name, parameter in model.named_parameters()}

    matrices = ("qkv_weight", "out.weight", "up.weight", "down.weight")
    tuned = after_a_step(model_with(square, {n: state[n] for n in layout_of(square)}), lambda n: n.endswith(matrices))
    adapted, _ = folded(after_a_step(model_with(shape, state), lambda name: name.endswith(".b")), shape)
    for name, weight in tuned.items():
        assert torch.allclose(weight, adapted[name], rtol=1e-9, atol=1e-9)
        assert name.endswith(matrices) != torch.equal(weight, state[name])


def frozen_parts() -> st.SearchStrategy[Frozen]:
    flag = st.booleans()
    return st.builds(Frozen, inputs=flag, norms=flag, blocks=st.integers(0, 2), trunk=flag)


@settings(max_examples=60, deadline=None)
@given(adapted_plans(), frozen_parts())
def test_training_flops_are_what_torch_counts(shape_and_plan, frozen):
    shape, plan = shape_and_plan
    whole, narrow = shape.full_plan().blocks, plan.blocks
    plan = SubmodelPlan(whole[: min(frozen.blocks, plan.depth)] + narrow[frozen.blocks :])
    model = model_of(shape, plan, frozen).module
    counted = counted_flops(lambda: torch.stack([z.sum() for z in model(random_samples(shape, 3))]).sum().backward())
    assert footprint(shape, plan.counts, frozen=frozen).training_step(3, "adamw").flops == counted


@settings(max_examples=20, deadline=None)
@given(adapted_plans())
def test_forward_flops_are_what_torch_counts(shape_and_plan):
    shape, plan = shape_and_plan
    model = model_with(shape, random_state(shape), plan)
    with torch.no_grad():
        counted = counted_flops(lambda: model(random_samples(shape, 3)))
    assert footprint(shape, plan.counts).evaluation_step(3).flops == counted


GRID = [
    (replace(shape, adapters=adapters), width, frozen)
    for shape in (FASHION, NEWS, SENTENCES, replace(SENTENCES, pooling="class", trunk=BERT_TRUNK))
    for width in (1.0, 0.5)
    for adapters, frozen in (
        (USUAL, TRUNK),
        (Adapters(rank=16, projections=PROJECTIONS), TRUNK),
        (Adapters(rank=4, projections=("up", "down")), Frozen(trunk=True, norms=True)),
        (Adapters(rank=4, projections=("query", "value")), TRUNK),
        (USUAL, Frozen(trunk=True, blocks=2)),
        (USUAL, NOTHING),
    )
]
LARGE = pytest.param(64, marks=pytest.mark.slow)
on_the_grid = pytest.mark.parametrize(("shape", "width", "frozen"), GRID)


@on_the_grid
def test_activations_are_what_autograd_saves(shape, width, frozen):
    plan = whole_trunk(shape, width, shape.blocks, frozen)
    predicted = 16 * footprint(shape, plan.counts, frozen=frozen).activation_bytes
    found = saved_bytes(model_of(shape, plan, frozen).module, 16)
    assert predicted == pytest.approx(found, rel=0.02)


@on_the_grid
@pytest.mark.parametrize("batch", [1, LARGE])
def test_training_memory_is_what_torch_allocates(shape, width, frozen, batch):
    plan = whole_trunk(shape, width, shape.blocks, frozen)
    predicted = footprint(shape, plan.counts, frozen=frozen).training_bytes(batch, "adamw")
    assert_peak(predicted, training(shape, plan, batch, "adamw", frozen=frozen))


@on_the_grid
@pytest.mark.parametrize("batch", [2, LARGE])
def test_kernels_and_traffic_of_training_are_those_that_torch_starts(shape, width, frozen, batch):
    plan = whole_trunk(shape, width, shape.blocks, frozen)
    step = footprint(shape, plan.counts, frozen=frozen).training_step(batch, "adamw")
    found = tally_of_a_step(partial(training, shape, plan, batch, "adamw", frozen=frozen))
    assert step.kernels == pytest.approx(found.kernels, rel=0.03)
    assert step.bytes_moved == pytest.approx(found.bytes_moved, rel=0.06)


WIDE = [(shape, frozen) for shape, width, frozen in GRID if width == 1.0 and frozen in (TRUNK, NOTHING)]


@pytest.mark.parametrize(("shape", "frozen"), WIDE)
def test_scoring_costs_what_torch_counts(shape, frozen):
    plan, batch = shape.full_plan(), 16
    cost = footprint(shape, plan.counts, frozen=frozen)
    work = partial(scoring, shape, plan, batch, frozen=frozen)
    found = tally_of_a_step(work)
    assert cost.scoring_step(batch).kernels == pytest.approx(found.kernels, rel=0.02)
    assert cost.scoring_step(batch).bytes_moved == pytest.approx(found.bytes_moved, rel=0.1)
    assert_peak(cost.scoring_bytes(batch), work())


@pytest.mark.parametrize(("shape", "frozen"), WIDE)
def test_evaluation_costs_what_torch_counts(shape, frozen):
    plan, batch = shape.full_plan(), 64
    cost = footprint(shape, plan.counts, frozen=frozen)
    work = partial(evaluation, shape, plan, batch, frozen=frozen)
    found = tally_of_a_step(work)
    assert cost.evaluation_step(batch).kernels == pytest.approx(found.kernels, rel=0.05)
    assert cost.evaluation_step(batch).bytes_moved == pytest.approx(found.bytes_moved, rel=0.1)
    assert_peak(cost.evaluation_bytes(batch), work())


def test_a_frozen_trunk_trains_adapters_and_exits_alone():
    layout = layout_of(ADAPTED)
    trained = {name for name, entry in layout.items() if not TRUNK.holds(entry)}
    assert trained == {name for name in layout if name.startswith("exits.") or ".adapters." in name}
    cost = footprint(ADAPTED, ADAPTED.full_plan().counts, frozen=TRUNK)
    assert cost.trained == sum(layout[name].shape[0] * (layout[name].shape[1:] or (1,))[0] for name in trained)


def test_groups_of_a_block_end_with_its_ranks():
    assert BLOCK_GROUPS == ("heads", "attention_rows", "hidden", "ffn_rows", "ranks")
    with pytest.raises(ValueError, match="^ranks: units must be ascending"):
        BlockPlan((0,), (0,), (0,), (0,), (1, 0))
