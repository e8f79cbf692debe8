from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from small_models import SMALL, random_state
from small_settings import setting

from cosp.methods import PruneFL
from cosp.server.coordinator import Coordinator
from cosp.submodel.footprint import footprint
from cosp.submodel.plan import GROUPS
from cosp.submodel.selection import random_scores
from cosp.task.demand import peak_memory_bytes
from cosp.task.training import TrainSettings

WHOLE = footprint(SMALL, SMALL.full_plan().counts).parameters


def server(*keeps: float, budget: str = "parameters") -> Coordinator:
    run = setting(*keeps, model=SMALL)
    return Coordinator(
        shape=SMALL,
        method=PruneFL(reconfigure=2, budget=budget).build(run),
        training=TrainSettings(),
        model=random_state(SMALL),
        clients=run.clients,
        seed=1,
    )


def squares(seed: int) -> torch.Tensor:
    scores = random_scores(SMALL, 3, np.random.default_rng(seed))
    return torch.from_numpy(np.concatenate([np.square(block[group]) for block in scores for group in GROUPS])).float()


def test_clients_of_one_budget_hold_the_same_units_once_all_have_measured():
    coordinator = server(0.5, 0.5, 0.8)
    for client in range(3):
        coordinator.take_scores(coordinator.next_task(client), squares(client))
    tasks = [coordinator.next_task(client) for client in range(3)]
    assert tasks[0].plan == tasks[1].plan
    for inner, outer in zip(tasks[0].plan.blocks, tasks[2].plan.blocks, strict=True):
        assert all(set(inner.of(group)) <= set(outer.of(group)) for group in GROUPS)
    assert all(task.parameters <= keep * WHOLE for task, keep in zip(tasks, (0.5, 0.5, 0.8), strict=True))


def test_the_plan_follows_what_all_have_measured_not_one_alone():
    coordinator = server(0.5, 0.5)
    coordinator.take_scores(coordinator.next_task(0), squares(0))
    alone = coordinator.next_task(0).plan
    coordinator.take_scores(coordinator.next_task(1), 100 * squares(1))
    assert coordinator.next_task(0).plan != alone
    assert coordinator.records[0].scores is not None  # its own, not the sum
    own = coordinator.records[0].scores[0]["hidden"]
    assert own.tolist() == squares(0).double()[2 + 8 : 2 + 8 + 6].tolist()


def test_the_order_is_measured_anew_every_few_dispatches():
    coordinator = server(0.5)
    kinds = []
    for _ in range(6):
        task = coordinator.next_task(0)
        kinds.append(task.kind)
        if task.kind == "score":
            coordinator.take_scores(task, squares(0))
    assert kinds == ["score", "train", "train", "score", "train", "train"]


def test_measuring_holds_the_gradient_of_the_whole_model():
    task = server(0.5).next_task(0)
    assert task.scoring is not None
    taylor = replace(task, scoring=replace(task.scoring, how="taylor"))
    assert task.plan == SMALL.full_plan()
    assert peak_memory_bytes(task) >= peak_memory_bytes(taylor) + 4 * task.parameters


def test_a_budget_of_flops_counts_flops():
    whole = footprint(SMALL, SMALL.full_plan().counts).forward_flops
    coordinator = server(0.5, 0.8, budget="flops")
    for client in range(2):
        coordinator.take_scores(coordinator.next_task(client), squares(client))
    for client, keep in enumerate((0.5, 0.8)):
        assert footprint(SMALL, coordinator.next_task(client).plan.counts).forward_flops <= keep * whole
