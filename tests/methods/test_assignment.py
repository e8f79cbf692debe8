from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

from cosp.errors import ConfigError
from cosp.fleet.cost import cost
from cosp.fleet.fleet import Board, load_fleet
from cosp.fleet.introduction import Introduction
from cosp.fleet.speed import speed_of
from cosp.methods import (
    FIARSE,
    Assignment,
    CoS2P,
    CoS2PPaper,
    DepthFL,
    FedAsync,
    FedAvg,
    FederatedDropout,
    FedProx,
    FedRolex,
    FjORD,
    HeteroFL,
    Platon,
    PruneFL,
    RAFed,
    ScaleFL,
    Setting,
)
from cosp.methods.clients import ClientRecord
from cosp.methods.one_model import OneModel
from cosp.methods.pricing import declared_round_s, work_of
from cosp.models.vit import ViTShape
from cosp.submodel.footprint import footprint
from cosp.submodel.selection import random_scores
from cosp.task.demand import peak_memory_bytes
from cosp.task.task import Task
from cosp.task.training import TrainSettings

MODEL = ViTShape(image=28, patch=7, channels=1, classes=10, dim=64, blocks=4, heads=4, hidden=256, exits=(1, 2, 3, 4))
TRAINING = TrainSettings(epochs=3, batch_size=16)
BOARDS = load_fleet("paper16").boards


def introduction(board: Board) -> Introduction:
    return Introduction(
        client=board.client, board=board.profile.name, link=board.link.name, keep=board.keep,
        memory_bytes=board.profile.memory_bytes, samples=100, test_samples=20, class_counts=(100,),
        speed=speed_of(board), gpu=board.profile.gpu,
    )  # fmt: skip


CLIENTS = tuple(introduction(board) for board in BOARDS)
BIG = ViTShape(image=32, patch=4, channels=3, classes=10, dim=96, blocks=4, heads=4, hidden=384, exits=(1, 2, 3, 4))
SHORT = replace(CLIENTS[2], keep=None, memory_bytes=12_000_000)


def scored(client: Introduction, model: ViTShape, run: Setting) -> ClientRecord:
    scores = random_scores(model, CoS2P().build(run).submodels.depth(client), np.random.default_rng(0))
    return ClientRecord(introduction=client, scores=scores)


def setting(*clients: Introduction, rule: str = "time", target_s: float | None = None) -> Setting:
    target_s = target_s or (0.1 if rule == "time" else math.inf)
    assignment = Assignment(rule=rule, target_round_s=target_s, round_s=declared_round_s(MODEL, TRAINING))
    return Setting(model=MODEL, training=TRAINING, seed=1, clients=clients or CLIENTS, assignment=assignment)


def tasks_of(run: Setting) -> list[Task]:
    """One training task of every client, units chosen."""
    method = CoS2P().build(run)
    tasks = []
    for client in run.clients:
        scores = random_scores(MODEL, method.submodels.depth(client), np.random.default_rng(client.client))
        plan = method.submodels.plan(ClientRecord(introduction=client, scores=scores))
        tasks.append(Task("train", client.client, 0, 0, 1, MODEL, plan, training=TRAINING))
    return tasks


def capacities(run: Setting) -> list[int]:
    return [task.parameters for task in tasks_of(run)]


def simulated_s(task: Task) -> float:
    """What the simulator will ask of the client's board."""
    client = CLIENTS[task.client]
    return cost(BOARDS[task.client], work_of(task, samples=client.samples, test_samples=client.test_samples)).total_s


@pytest.mark.parametrize("kind", [DepthFL, FederatedDropout, FedRolex, FjORD, HeteroFL, RAFed, ScaleFL])
def test_every_method_of_submodels_follows_the_rule_and_a_budget_that_shrinks(kind):
    whole = footprint(MODEL, MODEL.full_plan().counts).parameters
    method = kind().build(setting(CLIENTS[2], rule="memory"))  # whose keep ratio would allow a quarter
    less = ClientRecord(introduction=replace(CLIENTS[2], memory_bytes=2_000_000))
    plan = method.submodels.plan(less)
    assert footprint(MODEL, method.submodels.plan(ClientRecord(introduction=CLIENTS[2])).counts).parameters == whole
    assert footprint(MODEL, plan.counts).training_bytes(16, "adamw") <= 2_000_000
    assert method.submodels.depth(less.introduction) == plan.depth
    assert all(
        footprint(MODEL, p.counts).parameters < footprint(MODEL, plan.counts).parameters
        for p in method.local.within(less)
    )


@pytest.mark.parametrize("kind", [FIARSE, Platon])
def test_a_mask_follows_a_budget_that_shrinks(kind):
    method = kind().build(setting(CLIENTS[2], rule="memory"))
    less = replace(CLIENTS[2], memory_bytes=2_000_000)
    assert method.local.steps(ClientRecord(introduction=CLIENTS[2], version=99)).kept == 1.0
    assert method.local.steps(ClientRecord(introduction=less, version=99)).kept < 0.5


@pytest.mark.parametrize("kind", [FIARSE, HeteroFL, Platon, PruneFL])
def test_who_can_hold_nothing_any_more_is_found_by_its_depth(kind):
    """The server asks for the depth as it hears of a budget; to raise later would end the run."""
    method = kind().build(setting(CLIENTS[2], rule="memory"))
    with pytest.raises(ConfigError):
        method.submodels.depth(replace(CLIENTS[2], memory_bytes=10_000))


@pytest.mark.parametrize("target_s", [0.085, 0.12, 1.0])
def test_no_clients_round_is_longer_than_the_target(target_s):
    tasks = tasks_of(setting(target_s=target_s))
    assert max(map(simulated_s, tasks)) <= target_s
    assert len({task.parameters for task in tasks}) > 1 or target_s == 1.0  # boards differ
    assert all(peak_memory_bytes(task) <= client.memory_bytes for task, client in zip(tasks, CLIENTS, strict=True))


@pytest.mark.parametrize("rule", ["rate", "memory", "memory_share"])
@pytest.mark.parametrize("target_s", [0.03, 0.06])
def test_with_a_budget_a_target_takes_blocks_away_until_it_is_met_or_one_exit_is_left(rule, target_s):
    hurried, unhurried = tasks_of(setting(rule=rule, target_s=target_s)), tasks_of(setting(rule=rule))
    shallower = 0
    for task, full in zip(hurried, unhurried, strict=True):
        if task.plan.depth == full.plan.depth:
            assert task.plan == full.plan
        else:
            shallower += 1
            assert peak_memory_bytes(task) <= peak_memory_bytes(full)
            assert simulated_s(full) > target_s
        assert task.plan.depth == 1 or simulated_s(task) <= target_s
    assert shallower


def test_what_a_target_leaves_is_as_deep_as_it_allows():
    seconds = {
        exit: simulated_s(replace(tasks_of(setting(CLIENTS[15]))[0], plan=MODEL.full_plan(exit))) for exit in (2, 3)
    }
    between = sum(seconds.values()) / 2
    assert seconds[2] < between < seconds[3]
    (task,) = tasks_of(setting(replace(CLIENTS[15], keep=1.0), rule="rate", target_s=between))
    assert task.plan == MODEL.full_plan(2)


@pytest.mark.parametrize("kind", [CoS2PPaper, FedRolex, FIARSE, HeteroFL, Platon])
def test_a_method_whose_depth_is_its_own_refuses_a_target(kind):
    with pytest.raises(ConfigError, match=r"assignment\.target_round_s: "):
        kind().build(setting(rule="rate", target_s=0.1))


def test_more_time_buys_no_less():
    bought = [capacities(setting(target_s=target_s)) for target_s in (0.085, 0.1, 0.12, 0.5)]
    for less, more in itertools.pairwise(bought):
        assert all(a <= 1.01 * b for a, b in zip(less, more, strict=True))


def test_what_is_assigned_in_mixed_precision_keeps_memory_and_time_as_they_then_are():
    training = replace(TRAINING, precision="mixed")
    rule = Assignment(rule="time", target_round_s=0.2, round_s=declared_round_s(MODEL, training))
    run = Setting(model=MODEL, training=training, seed=1, clients=CLIENTS, assignment=rule)
    method = CoS2P().build(run)
    for client in CLIENTS:
        scores = random_scores(MODEL, method.submodels.depth(client), np.random.default_rng(client.client))
        record = ClientRecord(introduction=client, scores=scores)
        parts = method.local.parts(record, training)
        task = Task("train", client.client, 0, 0, 1, MODEL, method.submodels.plan(record), **parts)
        assert task.precision == ("mixed" if client.gpu else "float32")
        assert simulated_s(task) <= 0.2


def test_a_smaller_footprint_in_mixed_precision_holds_more():
    plain, mixed = (
        Setting(model=BIG, training=replace(TRAINING, precision=name), seed=1, clients=(SHORT,))
        for name in ("float32", "mixed")
    )
    held = [
        footprint(BIG, CoS2P().build(run).submodels.plan(scored(SHORT, BIG, run)).counts).parameters
        for run in (plain, mixed)
    ]
    assert held[0] < held[1]


@pytest.mark.parametrize("rule", ["memory", "memory_share", "time"])
def test_who_computes_blocks_twice_holds_more_in_the_same_memory(rule):
    client = replace(SHORT, keep=0.3)
    held = []
    for checkpointing in (False, True):
        training = replace(TRAINING, checkpointing=checkpointing)
        assignment = Assignment(rule=rule, target_round_s=10, round_s=declared_round_s(BIG, training))
        if rule != "time":
            assignment = Assignment(rule=rule)
        run = Setting(model=BIG, training=training, seed=1, clients=(client,), assignment=assignment)
        task = Task(
            "train", 0, 0, 0, 1, BIG, CoS2P().build(run).submodels.plan(scored(client, BIG, run)), training=training
        )
        assert peak_memory_bytes(task) <= assignment.limit_bytes(client, BIG, training)
        held.append(task.parameters)
    assert held[0] < held[1]


def test_a_gpu_that_declares_no_half_precision_rate_is_told_that_a_target_needs_it():
    training = replace(TRAINING, precision="mixed")
    rule = Assignment(rule="time", target_round_s=0.1, round_s=declared_round_s(MODEL, training))
    client = replace(CLIENTS[2], speed=replace(CLIENTS[2].speed, half_flops_per_s=None))
    with pytest.raises(ConfigError, match="declares no half-precision rate, which target_round_s needs"):
        CoS2P().build(Setting(model=MODEL, training=training, seed=1, clients=(client,), assignment=rule))


def test_memory_binds_where_time_does_not():
    small = replace(CLIENTS[0], memory_bytes=2_000_000)
    (task,) = tasks_of(setting(small, target_s=1e6))
    assert 0.9 * 2_000_000 < peak_memory_bytes(task) <= 2_000_000


def test_a_keep_ratio_counts_under_rule_rate_alone():
    whole = footprint(MODEL, MODEL.full_plan().counts).parameters
    nano = CLIENTS[2]
    assert nano.keep == 0.25
    assert capacities(setting(nano, rule="rate"))[0] <= 0.25 * whole
    assert capacities(setting(nano, rule="memory")) == [whole]  # 2.7 GB hold all of this model
    assert capacities(setting(nano, rule="time", target_s=1e6)) == [whole]


def test_one_model_for_all_is_the_largest_that_all_can_train_in_time():
    run = setting(target_s=0.085)
    plan = FedAvg(submodel="smallest").build(run).model.evaluated
    assert footprint(MODEL, plan.counts).parameters == min(capacities(run))


def test_a_client_that_cannot_meet_the_target_is_named_with_the_fastest_it_can_do():
    with pytest.raises(ConfigError) as caught:
        CoS2P().build(setting(target_s=0.03))
    assert str(caught.value).startswith("client 2 (jetson-nano, wifi): time: no submodel makes a round of 0.03 s, ")
    assert "the fastest takes 0.0" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_client_that_declares_no_speed_is_told_that_the_rule_needs_it():
    silent = replace(CLIENTS[3], speed=None)
    with pytest.raises(ConfigError, match=r"^client 3 \(jetson-nano, wifi\): it declares no speed"):
        CoS2P().build(setting(silent))
    assert CoS2P().build(setting(silent, rule="rate"))


def test_a_shape_is_found_anew_when_a_clients_budget_is_another():
    run = setting(CLIENTS[2], rule="memory")
    method = CoS2P(units="rolling").build(run)
    before = method.submodels.plan(ClientRecord(introduction=CLIENTS[2]))
    less = replace(CLIENTS[2], memory_bytes=2_000_000)
    after = method.submodels.plan(ClientRecord(introduction=less))
    assert before == MODEL.full_plan()
    assert footprint(MODEL, after.counts).training_bytes(16, "adamw") <= 2_000_000
    assert method.submodels.depth(less) == after.depth
    assert not method.submodels.chooses(CLIENTS[2])
    assert method.submodels.chooses(less)


SHARED = [
    CoS2P(), FedRolex(), FederatedDropout(), RAFed(), HeteroFL(), FjORD(), DepthFL(), ScaleFL(),
    FedAvg(submodel="smallest"), FedProx(submodel="smallest"), FedAsync(submodel="smallest"),
]  # fmt: skip


@pytest.mark.parametrize("settings", SHARED, ids=lambda settings: settings.name)
def test_no_training_task_holds_more_than_its_share_of_what_the_whole_model_trains_in(settings):
    run = setting(rule="memory_share")
    method, whole = settings.build(run), footprint(MODEL, MODEL.full_plan().counts).training_bytes(16, "adamw")
    for client in run.clients:
        scores = random_scores(MODEL, method.submodels.depth(client), np.random.default_rng(0))
        record = ClientRecord(introduction=client, scores=scores)
        parts = method.local.parts(record, TRAINING)
        task = Task("train", client.client, 0, 0, 1, MODEL, method.submodels.plan(record), **parts)
        smallest = min(one.keep for one in run.clients) if isinstance(settings, OneModel) else client.keep
        assert 0.6 * smallest * whole < peak_memory_bytes(task) <= client.keep * whole


@pytest.mark.parametrize("kind", [FIARSE, Platon, PruneFL])
def test_who_must_hold_the_whole_model_cannot_keep_a_share_of_its_memory(kind):
    with pytest.raises(ConfigError, match=r"^assignment.rule: .*set assignment.rule: rate"):
        kind().build(setting(rule="memory_share"))


def test_a_share_of_memory_needs_a_keep_ratio():
    with pytest.raises(ConfigError, match=r"^client 2 .*: keep: is missing"):
        CoS2P().build(setting(replace(CLIENTS[2], keep=None), rule="memory_share"))
