"""Methods that differ by which units a client holds."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_settings import MODEL, plan_of, record, setting

from cosp.errors import ConfigError
from cosp.methods import DepthFL, FederatedDropout, FedRolex, FjORD, HeteroFL, RAFed, ScaleFL
from cosp.models import TextShape, TransformerShape
from cosp.submodel.footprint import footprint
from cosp.submodel.plan import GROUPS, SubmodelPlan

KEEPS = (0.25, 0.5, 0.75, 1.0)
WIDTH_ONLY = (HeteroFL, FjORD, FedRolex, FederatedDropout, RAFed)
WORDS = TextShape(vocabulary=4000, length=31, classes=20, dim=64, blocks=4, heads=4, hidden=256, exits=(1, 2, 3, 4))
"""A model of which a table of words is more than half."""


def share(plan: SubmodelPlan, model: TransformerShape = MODEL, measure: str = "parameters") -> float:
    part, whole = footprint(model, plan.counts), footprint(model, model.full_plan().counts)
    return float(getattr(part, measure) / getattr(whole, measure))


def hidden(plan: SubmodelPlan) -> list[int]:
    return list(plan.blocks[0].hidden)


@pytest.mark.parametrize("method", [*WIDTH_ONLY, DepthFL, ScaleFL])
def test_every_client_is_given_its_budget(method):
    run = setting(*KEEPS)
    built = method().build(run)
    for client in run.clients:
        plan = plan_of(built, client, turn=3, version=5)
        assert share(plan) <= client.keep
        assert plan.depth == built.submodels.depth(client)
    assert plan_of(built, run.clients[-1]) == MODEL.full_plan()


@pytest.mark.parametrize("method", WIDTH_ONLY)
def test_width_methods_keep_every_block_and_fill_the_budget(method):
    run = setting(*KEEPS)
    built = method().build(run)
    for client in run.clients:
        plan = plan_of(built, client)
        assert plan.depth == MODEL.blocks
        assert share(plan) > 0.9 * client.keep


@pytest.mark.parametrize("method", [*WIDTH_ONLY, DepthFL, ScaleFL])
def test_a_budget_of_flops_is_kept_where_a_table_of_words_eats_one_of_parameters(method):
    run = setting(0.4, 1.0, model=WORDS)
    client = run.clients[0]
    with pytest.raises(ConfigError, match=r"^client 0 \(nano, wifi\): keep: no submodel fits 186 k parameters: "):
        method().build(run)
    plan = plan_of(method(budget="flops").build(run), client)
    assert share(plan, WORDS, "forward_flops") <= client.keep < share(plan, WORDS)  # the table is whole


@pytest.mark.parametrize("method", [HeteroFL, FjORD, DepthFL, ScaleFL])
def test_prefix_plans_are_nested(method):
    run = setting(*KEEPS)
    plans = [plan_of(method().build(run), client) for client in run.clients]
    for smaller, larger in itertools.pairwise(plans):
        assert smaller.depth <= larger.depth
        for inner, outer in zip(smaller.blocks, larger.blocks, strict=False):
            assert all(set(inner.of(group)) <= set(outer.of(group)) for group in GROUPS)
            assert all(inner.of(group) == tuple(range(len(inner.of(group)))) for group in GROUPS)


def test_heterofl_states_its_switches():
    run = setting(0.25, 1.0)
    on, off = HeteroFL().build(run), HeteroFL(scaler=False, masked_loss=False).build(run)
    client = record(run.clients[0])
    assert (on.local.steps(client).view, on.local.present_labels) == ("scaled", True)
    assert (off.local.steps(client).view, off.local.present_labels) == ("plain", False)
    assert on.local.steps(record(run.clients[1])).view == "plain"  # nothing to scale


@settings(max_examples=20)
@given(st.integers(1, 40), st.integers(0, 500))
def test_fedrolex_windows_advance_by_the_step_each_version_and_wrap_around(step, version):
    run = setting(0.25)
    method = FedRolex(step=step).build(run)
    (client,) = run.clients
    now = set(hidden(plan_of(method, client, version=version)))
    then = set(hidden(plan_of(method, client, version=version + 1)))
    assert then == {(unit + step) % 256 for unit in now}


def test_fedrolex_covers_every_unit_within_as_many_versions_as_there_are_units():
    run = setting(0.25)
    method = FedRolex().build(run)
    windows = [set(hidden(plan_of(method, run.clients[0], version=v))) for v in range(256)]
    assert set.union(*windows) == set(range(256))
    times = [sum(unit in window for window in windows) for unit in range(256)]
    assert set(times) == {len(windows[0])}  # and all equally often


def test_fedrolex_clients_of_one_version_share_the_start_of_their_windows():
    run = setting(0.25, 0.25, 0.5)
    method = FedRolex().build(run)
    small, same, larger = (
        set(hidden(plan_of(method, client, turn=client.client, version=9))) for client in run.clients
    )
    assert small == same < larger


def test_federated_dropout_draws_anew_at_every_dispatch():
    run = setting(0.25, 0.25)
    method = FederatedDropout().build(run)
    draws = [hidden(plan_of(method, client, turn=turn)) for client in run.clients for turn in (0, 1)]
    assert len({tuple(units) for units in draws}) == 4
    assert draws[0] == hidden(plan_of(method, run.clients[0], turn=0))


def test_ra_fed_windows_stand_still_and_cover_all_units_between_them():
    run = setting(0.25, 0.25, 0.25, 0.25, 0.25)
    method = RAFed().build(run)
    first = [plan_of(method, client) for client in run.clients]
    assert first == [plan_of(method, client, turn=7, version=9) for client in run.clients]
    for client, plan in enumerate(first[1:], start=1):
        begin = client * 256 // 5
        assert begin in hidden(plan)
        assert begin - 1 not in hidden(plan)
    assert {unit for plan in first for unit in hidden(plan)} == set(range(256))


def test_depthfl_keeps_whole_blocks_and_its_exits_teach_each_other():
    run = setting(*KEEPS)
    method = DepthFL().build(run)
    plans = [plan_of(method, client) for client in run.clients]
    assert [plan.depth for plan in plans] == [1, 2, 3, 4]
    assert method.local.transfer.teacher == "mutual"


def test_scalefl_prunes_both_dimensions_and_its_shallow_exits_follow_the_deepest():
    run = setting(0.25)
    method = ScaleFL().build(run)
    plan = plan_of(method, run.clients[0])
    assert plan.depth == 2
    assert len(hidden(plan)) < 256
    transfer = method.local.transfer
    assert (transfer.teacher, transfer.depth_weighted, transfer.detach) == ("deepest", True, True)


def test_fjord_draws_from_the_rates_below_a_clients_own():
    run = setting(0.25, 1.0)
    method = FjORD(rates=(0.125, 0.25, 0.5)).build(run)
    inside = [method.local.within(record(client)) for client in run.clients]
    assert [len(plans) for plans in inside] == [1, 3]
    assert inside[1][0] == inside[0][0]
    assert inside[1][1] == plan_of(method, run.clients[0])


def test_a_rate_that_leaves_no_submodel_is_passed_over():
    run = setting(1.0)
    assert FjORD(rates=(0.001,)).build(run).local.within(record(run.clients[0])) == ()


def test_a_rate_that_is_no_ratio_is_refused():
    with pytest.raises(ConfigError, match="keep: 1.5 is not a keep ratio"):
        FjORD(rates=(0.5, 1.5)).build(setting(1.0))
