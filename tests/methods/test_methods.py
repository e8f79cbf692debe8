from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError
from small_models import VIT_B

from cosp.errors import ConfigError
from cosp.fleet.fleet import load_fleet
from cosp.fleet.introduction import Introduction
from cosp.merge.staleness import Arrival
from cosp.methods import CoS2P, CoS2PPaper, FedAvg, Method, MethodSettings, Setting
from cosp.methods.clients import ClientRecord
from cosp.methods.co_s2p import DATA_FREE
from cosp.models.vit import ViTShape
from cosp.submodel.footprint import footprint
from cosp.submodel.plan import GROUPS, SubmodelPlan
from cosp.submodel.selection import Scores, random_scores
from cosp.task.training import TrainSettings
from cosp.transfer import TransferSettings

MODEL = ViTShape(image=28, patch=7, channels=1, classes=10, dim=64, blocks=4, heads=4, hidden=256, exits=(1, 2, 3, 4))
UNITS = ("core_rolling", "top", "rolling", "random", "gumbel", "prefix")


def introduction(client: int, keep: float | None, memory_bytes: int = 10**9) -> Introduction:
    return Introduction(
        client=client, board="nano", link="wifi", keep=keep, memory_bytes=memory_bytes, samples=100, test_samples=10,
        class_counts=(100,),
    )  # fmt: skip


def setting(*keeps: float | None, model: ViTShape = MODEL) -> Setting:
    clients = tuple(introduction(client, keep) for client, keep in enumerate(keeps))
    return Setting(model=model, training=TrainSettings(), seed=1, clients=clients)


def fleet_setting(name: str, model: ViTShape = MODEL) -> Setting:
    return setting(*(board.keep for board in load_fleet(name).boards), model=model)


def scores_for(method: Method, client: Introduction, model: ViTShape = MODEL) -> Scores:
    return random_scores(model, method.submodels.depth(client), np.random.default_rng(client.client))


def plan_of(method: Method, client: Introduction, turn: int = 0, model: ViTShape = MODEL) -> SubmodelPlan:
    record = ClientRecord(introduction=client, dispatches=turn, scores=scores_for(method, client, model))
    return method.submodels.plan(record)


def share(plan: SubmodelPlan, model: ViTShape = MODEL, measure: str = "parameters") -> float:
    part, whole = footprint(model, plan.counts), footprint(model, model.full_plan().counts)
    return float(getattr(part, measure) / getattr(whole, measure))


@pytest.mark.parametrize("fleet", ["paper16", "weak16", "mild16", "equal4"])
@pytest.mark.parametrize("units", UNITS)
def test_co_s2p_plans_fit_every_clients_keep_ratio(fleet, units):
    run = fleet_setting(fleet)
    method = CoS2P(units=units).build(run)
    for client in run.clients:
        for turn in (0, 7):
            plan = plan_of(method, client, turn)
            assert 0.8 * client.keep < share(plan) <= client.keep
            assert plan.depth == method.submodels.depth(client)


def test_co_s2p_fits_the_keep_ratio_of_a_vit_b_closely():
    run = fleet_setting("paper16", VIT_B)
    method = CoS2P().build(run)
    for client in run.clients:
        assert 0.97 * client.keep < share(plan_of(method, client, model=VIT_B), VIT_B) <= client.keep


def test_a_budget_can_count_flops():
    run = setting(0.25, 1.0)
    method = CoS2P(budget="flops").build(run)
    assert 0.2 < share(plan_of(method, run.clients[0]), measure="forward_flops") <= 0.25


def test_a_client_without_a_keep_ratio_gets_what_its_memory_holds():
    whole = footprint(MODEL, MODEL.full_plan().counts).training_bytes(32, "adamw")
    small = introduction(0, None, memory_bytes=whole // 2)
    big = introduction(1, None, memory_bytes=whole)
    method = CoS2P().build(replace(setting(1.0), clients=(small, big)))
    plan = plan_of(method, small)
    assert footprint(MODEL, plan.counts).training_bytes(32, "adamw") <= whole // 2
    assert share(plan) > 0.25
    assert plan_of(method, big) == MODEL.full_plan()


def test_a_client_that_holds_nothing_is_named_when_the_run_is_built():
    with pytest.raises(ConfigError, match="keep"):
        CoS2P().build(setting(1.0, 0.001))


def test_core_units_stay_and_the_others_roll():
    run = setting(0.25)
    method = CoS2P(core_share=0.5, depth_share=0.5).build(run)
    (client,) = run.clients
    scores = scores_for(method, client)
    plans = [plan_of(method, client, turn) for turn in range(8)]
    hidden = [set(plan.blocks[0].hidden) for plan in plans]
    core = round(0.5 * len(hidden[0]))
    best = set(np.argsort(-scores[0]["hidden"])[:core].tolist())
    assert all(best <= units for units in hidden)
    assert set.intersection(*hidden) == best
    assert set.union(*hidden) == set(range(256))


def test_staggered_clients_hold_different_windows():
    run = setting(0.25, 0.25)
    same, apart = (CoS2P(units="rolling", depth_share=0.5, stagger=stagger).build(run) for stagger in (False, True))
    first, second = run.clients
    assert plan_of(same, first) == plan_of(same, second)
    windows = [set(plan_of(apart, client).blocks[0].hidden) for client in run.clients]
    assert windows[0] != windows[1]


def test_scores_are_asked_for_only_when_units_are_chosen_by_data():
    for units in (*UNITS, "bernoulli"):
        method = CoS2P(units=units).build(setting(0.5))
        assert (method.submodels.scoring is None) == (units in DATA_FREE)


def test_a_client_that_holds_every_unit_is_asked_for_no_scores():
    run = setting(0.25, 0.5, 1.0)
    assert [CoS2P().build(run).submodels.chooses(client) for client in run.clients] == [True, True, False]


def test_fedavg_trains_everything_everywhere():
    run = fleet_setting("weak16")
    method = FedAvg().build(run)
    assert {plan_of(method, client) for client in run.clients} == {MODEL.full_plan()}
    assert method.model.evaluated == MODEL.full_plan()
    assert (method.name, method.local.transfer.teacher, method.submodels.scoring) == ("fedavg-full", "none", None)


def test_the_smallest_fedavg_fits_every_client():
    run = fleet_setting("weak16")
    method = FedAvg(submodel="smallest").build(run)
    (plan,) = {plan_of(method, client) for client in run.clients}
    assert 0.2 < share(plan) <= min(client.keep for client in run.clients)
    assert method.model.evaluated == plan
    assert all(plan.blocks[0].of(group) == tuple(range(len(plan.blocks[0].of(group)))) for group in GROUPS)


def test_the_paper_draws_once_and_for_ever():
    run = setting(0.25, 0.5)
    method = CoS2PPaper().build(run)
    first, second = run.clients
    assert {plan_of(method, first, turn) for turn in range(5)} == {plan_of(method, first)}
    assert plan_of(method, first).blocks[0] != plan_of(method, second).blocks[0]
    assert method.submodels.scoring.refresh_dispatches > 10**5


@pytest.mark.parametrize(("keep", "depth"), [(0.2, 1), (0.25, 1), (0.5, 2), (0.7, 2), (0.75, 3), (1.0, 4)])
def test_the_papers_depth_is_floor_of_r_times_blocks(keep, depth):
    run = setting(keep)
    method = CoS2PPaper().build(run)
    assert method.submodels.depth(run.clients[0]) == plan_of(method, run.clients[0]).depth == depth


def test_the_paper_prunes_even_a_client_with_room_for_everything():
    run = setting(1.0)
    block = plan_of(CoS2PPaper().build(run), run.clients[0]).blocks[0]
    assert 0.3 * 256 < len(block.hidden) < 0.7 * 256


def test_the_papers_merge_rules():
    method = CoS2PPaper().build(setting(0.5))
    arrival = Arrival(staleness=3, waited=1, samples=10, keep=0.5, delta_l1=lambda: 4.0, drift_l1=lambda: 1.0)
    assert method.merging.weigh(arrival) == 4.0
    assert method.merging.over_all
    assert (method.merging.step.rate, method.merging.step.momentum) == (1.0, 0.0)
    assert method.local.transfer == TransferSettings("deepest", detach=False, reduction="mean", warmup_versions=10)


def test_a_method_is_found_by_its_name():
    adapter = TypeAdapter(MethodSettings)
    assert adapter.validate_python({"name": "fedavg", "submodel": "smallest"}) == FedAvg(submodel="smallest")
    with pytest.raises(ValidationError):
        adapter.validate_python({"name": "fedsgd"})
