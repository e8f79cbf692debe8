"""Methods that mask the whole model weight by weight, and what they do not save."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from small_models import SMALL, random_state
from small_settings import MODEL, introduction, plan_of, record, setting

from cosp.methods import FIARSE, FedPM, Platon
from cosp.methods.masking import kept_shares
from cosp.submodel.matrices import all_matrices, marked_count
from cosp.submodel.slicing import State
from cosp.task.demand import download_bytes, peak_memory_bytes, training_step, upload_bytes
from cosp.task.local import LocalSettings
from cosp.task.task import Task
from cosp.task.training import TrainSettings

UP = "blocks.0.ffn.up.weight"


@pytest.mark.parametrize("method", [FIARSE, Platon, FedPM])
def test_masked_methods_train_the_whole_model_whatever_the_board_holds(method):
    run = setting(0.25, 1.0)
    built = method().build(run)
    assert all(plan_of(built, client) == MODEL.full_plan() for client in run.clients)
    task = Task("train", 0, 0, 0, 0, MODEL, MODEL.full_plan())
    masked = replace(task, local=built.local.steps(record(run.clients[0])))
    assert peak_memory_bytes(masked) > peak_memory_bytes(task)
    assert training_step(masked).flops == training_step(task).flops


def test_fiarse_leaves_the_clients_share_of_the_weights_on():
    run = setting(0.25, 1.0)
    method = FIARSE().build(run)
    found = [method.local.steps(record(client)) for client in run.clients]
    assert found == [LocalSettings(view="fiarse", kept=0.25), LocalSettings(view="fiarse", kept=1.0)]
    assert method.merging.over_moved


def test_a_board_without_a_keep_ratio_keeps_the_share_that_its_memory_would_hold():
    run = setting(1.0)
    assert kept_shares(run)(introduction(0, None)) == 1.0
    assert 0.1 < kept_shares(run)(introduction(0, None, memory_bytes=6 * 10**6)) < 0.9


def test_platon_prunes_on_a_cubic_schedule():
    method = Platon(first_version=10, last_version=30)
    assert [method.kept(version, 0.2) for version in (0, 10, 20, 30, 99)] == pytest.approx(
        [1.0, 1.0, 0.2 + 0.8 * 0.125, 0.2, 0.2]
    )
    built = method.build(setting(0.2))
    client = record(setting(0.2).clients[0], version=20)
    assert built.local.steps(client).kept == pytest.approx(0.3)


def test_fedpm_sends_a_bit_a_masked_weight_up_and_floats_down():
    run = setting(1.0)
    local = FedPM().build(run).local.steps(record(run.clients[0]))
    task = Task("train", 0, 0, 0, 0, MODEL, MODEL.full_plan(), local=local)
    assert upload_bytes(task) == -(-marked_count(MODEL, task.plan.counts, all_matrices) // 8)
    assert download_bytes(task) > 4 * task.parameters


def test_fedpm_trains_scores_at_their_own_rate_without_decay():
    trained = (
        FedPM(score_learning_rate=0.3).build(setting(1.0)).local.settings(TrainSettings(epochs=7, weight_decay=0.05))
    )
    assert trained == TrainSettings(epochs=7, learning_rate=0.3, weight_decay=0.0)


def test_fedpm_holds_scores_and_serves_frozen_weights():
    method, fresh = FedPM().build(setting(1.0, model=SMALL)), random_state(SMALL)
    state = method.model.initial(fresh)
    assert not state[UP].any()
    assert state["positions"] is fresh["positions"]
    served: State = method.model.served(state)
    assert sorted(served[UP].abs().unique().tolist()) == pytest.approx([0.0, 8**-0.5])
    certain = method.model.served({**state, UP: torch.full_like(state[UP], 99.0)})
    assert bool((certain[UP] != 0).all())
    assert served["positions"] is fresh["positions"]
