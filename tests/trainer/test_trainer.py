from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from small_models import SMALL, model_with, random_state, same_units
from torch import Tensor

from cosp.models.flat import FlatModel
from cosp.seeds import numpy_stream
from cosp.submodel.flat import flatten, length, spans_of
from cosp.submodel.plan import GROUPS
from cosp.submodel.shape import layout_of
from cosp.submodel.slicing import extract
from cosp.task.payload import scores_from_vector, scores_to_vector
from cosp.task.scoring import SCORES, ScoreSettings
from cosp.task.task import Task
from cosp.task.training import TrainSettings
from cosp.trainer.power import PowerMeter
from cosp.trainer.samples import ClientSamples, Samples
from cosp.trainer.trainer import Trainer
from cosp.trainer.training import train
from cosp.transfer import mean_prediction

LAYOUT = layout_of(SMALL)
NARROW = same_units(2, heads=(1,), attention_rows=(0, 3), hidden=(2, 4), ffn_rows=(5,))
TRAIN = Task("train", 0, 3, 0, 1, SMALL, NARROW, training=TrainSettings(epochs=1, batch_size=4))
SCORE = replace(TRAIN, kind="score", plan=SMALL.full_plan(2), scoring=ScoreSettings(samples=6, batch_size=4))
EVALUATE = replace(TRAIN, kind="evaluate", plan=SMALL.full_plan(), split="test", first=2, last=9)


def samples(count: int, seed: int) -> Samples:
    rng = np.random.default_rng(seed)
    return Samples(rng.normal(size=(count, 1, 4, 4)).astype(np.float32), rng.integers(0, 3, count))


@pytest.fixture
def trainer(monkeypatch) -> Trainer:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    return Trainer({0: ClientSamples(samples(10, 0), samples(4, 1))}, {"test": samples(20, 2)})


def weights_for(task: Task) -> Tensor:
    return flatten(extract(random_state(SMALL), LAYOUT, task.plan), spans_of(LAYOUT, task.plan.counts))


def accuracy(weights: Tensor, data: Samples, log_prior: float | Tensor = 0.0) -> float:
    model = model_with(SMALL, random_state(SMALL), NARROW)
    torch.nn.utils.vector_to_parameters(weights, model.parameters())
    return float(((model(torch.from_numpy(data.x))[-1] + log_prior).argmax(-1).numpy() == data.y).mean())


def test_a_train_task_returns_trained_minus_received(trainer):
    received = weights_for(TRAIN)
    kept = received.clone()
    facts, delta = trainer.run(TRAIN, received)
    assert torch.equal(received, kept)
    trained = FlatModel(SMALL, NARROW, torch.device("cpu"))
    trained.load(received)
    own, rng = trainer.clients[0], numpy_stream(1, "batches", 0, 3)
    loss = train(trained, own.train, settings=TRAIN.training, transfer=TRAIN.transfer, version=3, rng=rng)
    assert torch.equal(delta, trained.weights - received)
    assert facts["loss"] == loss
    assert facts["samples"] == 10
    assert facts["local_accuracy_received"] == pytest.approx(accuracy(received, own.test))
    assert facts["local_accuracy_trained"] == pytest.approx(accuracy(received + delta, own.test))


def test_a_trainer_says_what_a_task_took(trainer):
    trainer.meter = PowerMeter("VDD_IN", lambda: 5.0)
    facts, _ = trainer.run(TRAIN, weights_for(TRAIN))
    assert 0 < facts["wall_step_s"] * 3 < facts["wall_s"]  # ten samples by fours are three steps
    assert facts["wall_energy_j"] >= 5.0 * facts["wall_s"]
    assert facts["wall_power_scope"] == "VDD_IN"


def test_measuring_changes_no_result(trainer):
    plain = trainer.run(TRAIN, weights_for(TRAIN))
    trainer.meter = PowerMeter("VDD_IN", lambda: 5.0)
    metered = trainer.run(TRAIN, weights_for(TRAIN))
    assert torch.equal(plain[1], metered[1])
    assert plain[0]["loss"] == metered[0]["loss"]


def test_a_balanced_task_trains_and_judges_itself_with_its_own_class_shares(trainer):
    skewed = Samples(samples(60, 0).x, np.array([0] * 50 + [1] * 10))
    trainer.clients = {0: ClientSamples(skewed, Samples(samples(40, 1).x, np.zeros(40, dtype=np.int64)))}
    received, own = weights_for(TRAIN), trainer.clients[0]
    shares = torch.tensor([51 / 63, 11 / 63, 1 / 63]).log()
    facts, delta = trainer.run(replace(TRAIN, balanced=True), received)
    assert facts["local_accuracy_received"] == pytest.approx(accuracy(received, own.test, shares))
    assert facts["local_accuracy_trained"] == pytest.approx(accuracy(received + delta, own.test, shares))
    assert facts["local_accuracy_received"] > accuracy(received, own.test)
    assert not torch.equal(delta, trainer.run(TRAIN, received)[1])


def test_a_cpu_trains_in_float32_whatever_is_asked(trainer):
    mixed = replace(TRAIN, training=replace(TRAIN.training, precision="mixed"))
    received = weights_for(TRAIN)
    assert torch.equal(trainer.run(mixed, received)[1], trainer.run(TRAIN, received)[1])


def test_training_nothing_changes_nothing(trainer):
    still = replace(TRAIN, training=TrainSettings(epochs=1, optimizer="sgd", learning_rate=1e-30, weight_decay=0.0))
    assert not trainer.run(still, weights_for(still))[1].any()


def test_a_task_repeats_bit_for_bit_whatever_came_before(trainer):
    first = trainer.run(TRAIN, weights_for(TRAIN))[1]
    trainer.run(SCORE, weights_for(SCORE))
    trainer.run(replace(TRAIN, version=4), weights_for(TRAIN))
    assert torch.equal(trainer.run(TRAIN, weights_for(TRAIN))[1], first)
    assert not torch.equal(trainer.run(replace(TRAIN, version=4), weights_for(TRAIN))[1], first)


@pytest.mark.parametrize("how", SCORES)
def test_a_score_task_scores_every_unit_of_the_full_width_blocks(trainer, how):
    task = replace(SCORE, scoring=ScoreSettings(how=how, samples=6, batch_size=4))
    _, vector = trainer.run(task, weights_for(task))
    scores = scores_from_vector(vector, task)
    assert [{group: len(block[group]) for group in GROUPS} for block in scores] == [
        {group: SMALL.sizes.of(group) for group in GROUPS}
    ] * 2
    assert torch.equal(scores_to_vector(scores), vector)


@pytest.mark.parametrize("vector", [torch.zeros(47), torch.full((48,), float("nan")), torch.zeros(0)])
def test_scores_of_the_wrong_number_or_not_finite_are_refused(vector):
    with pytest.raises(ValueError, match="scores must be 48 finite numbers"):
        scores_from_vector(vector, SCORE)


def test_a_score_task_needs_settings(trainer):
    with pytest.raises(ValueError, match="scoring settings"):
        trainer.run(replace(SCORE, scoring=None), weights_for(SCORE))


def test_an_evaluation_counts_what_each_exit_predicts(trainer):
    facts, vector = trainer.run(EVALUATE, weights_for(EVALUATE))
    counts = vector.view(4, 3, 3)
    x, y = trainer.splits["test"].x[2:9], trainer.splits["test"].y[2:9]
    with torch.no_grad():
        logits = model_with(SMALL, random_state(SMALL))(torch.from_numpy(x))
    for i, probabilities in enumerate([*(F.softmax(z, dim=-1) for z in logits), mean_prediction(logits)]):
        expected = np.zeros((3, 3))
        for true, predicted in zip(y, probabilities.argmax(-1), strict=True):
            expected[true, predicted] += 1
        assert counts[i].tolist() == expected.tolist()
        loss = -float(probabilities[torch.arange(7), torch.from_numpy(y)].log().sum())
        assert facts["losses"][i] == pytest.approx(loss, rel=1e-4)


def test_a_vector_of_the_wrong_length_is_refused(trainer):
    with pytest.raises(RuntimeError):
        trainer.run(TRAIN, torch.zeros(length(spans_of(LAYOUT, NARROW.counts)) + 1))
