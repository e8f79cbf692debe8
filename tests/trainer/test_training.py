from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from small_models import SMALL, model_with, random_state, same_units

from cosp.models.flat import FlatModel
from cosp.submodel.flat import flatten, spans_of, views
from cosp.submodel.shape import layout_of
from cosp.submodel.slicing import extract
from cosp.task.local import LocalSettings
from cosp.task.serial import task_from_json, task_to_json
from cosp.task.task import Task
from cosp.task.training import TrainSettings
from cosp.trainer.samples import ClientSamples, Samples
from cosp.trainer.trainer import Trainer
from cosp.trainer.training import evaluation_batches, train
from cosp.transfer import TransferSettings, exit_loss

NARROW = same_units(2, heads=(1,), attention_rows=(0, 3), hidden=(2, 4), ffn_rows=(5,))
TRANSFER = TransferSettings()


def samples(count: int = 8) -> Samples:
    rng = np.random.default_rng(0)
    return Samples(rng.normal(size=(count, 1, 4, 4)).astype(np.float32), rng.integers(0, 3, count))


def flat_model(plan=NARROW) -> FlatModel:
    layout = layout_of(SMALL)
    model = FlatModel(SMALL, plan, torch.device("cpu"))
    model.load(flatten(extract(random_state(SMALL), layout, plan), spans_of(layout, plan.counts)))
    return model


def train_with(model: FlatModel, data: Samples, *, seed: int = 0, **settings: object) -> float:
    choice = TrainSettings(**settings)
    rng = np.random.default_rng(seed)
    return train(model, data, settings=choice, transfer=TRANSFER, version=0, rng=rng)


def gradient_of(data: Samples) -> torch.Tensor:
    """Gradient of the loss on all of ``data`` at the first weights, end to end, from a plain module."""
    model = model_with(SMALL, random_state(SMALL), NARROW)
    exit_loss(model(torch.from_numpy(data.x)), torch.from_numpy(data.y), TRANSFER, 0)[0].backward()
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters()])


def test_one_step_of_sgd_by_hand():
    model, data = flat_model(), samples()
    before = model.weights.clone()
    train_with(
        model, data, epochs=1, batch_size=8, optimizer="sgd", learning_rate=0.1, weight_decay=0.01, clip_norm=None
    )
    expected = before - 0.1 * (gradient_of(data) + 0.01 * before)
    torch.testing.assert_close(model.weights, expected, rtol=1e-4, atol=1e-6)


def test_clipping_bounds_the_step():
    model, data = flat_model(), samples()
    before = model.weights.clone()
    sgd = {"epochs": 1, "batch_size": 8, "optimizer": "sgd", "learning_rate": 1.0, "weight_decay": 0.0}
    train_with(model, data, clip_norm=0.25, **sgd)
    assert float((model.weights - before).norm()) == pytest.approx(0.25, rel=1e-4)
    model = flat_model()
    train_with(model, data, clip_norm=1e6, **sgd)  # a limit that is not reached changes nothing
    torch.testing.assert_close(model.weights, before - gradient_of(data), rtol=1e-4, atol=1e-5)


def test_adamw_over_one_vector_is_adamw_over_the_parameters():
    model, data = flat_model(), samples(12)
    train_with(model, data, epochs=3, batch_size=5, learning_rate=0.01, weight_decay=0.1, clip_norm=0.5)
    plain = model_with(SMALL, random_state(SMALL), NARROW)
    optimizer = torch.optim.AdamW(plain.parameters(), lr=0.01, weight_decay=0.1)
    rng = np.random.default_rng(0)
    for _ in range(3):
        order = rng.permutation(12)
        for start in range(0, 12, 5):
            chosen = order[start : start + 5]
            optimizer.zero_grad()
            x, y = torch.from_numpy(data.x[chosen]), torch.from_numpy(data.y[chosen])
            exit_loss(plain(x), y, TRANSFER, 0)[0].backward()
            torch.nn.utils.clip_grad_norm_(plain.parameters(), 0.5)
            optimizer.step()
    found = views(model.weights, spans_of(layout_of(SMALL), NARROW.counts))
    for name, parameter in plain.named_parameters():
        # softmax ignores the key biases: their gradients are rounding errors, which AdamW blows up
        rows = [0, 2] if name.endswith("qkv_bias") else slice(None)
        torch.testing.assert_close(found[name][rows], parameter.detach()[rows], rtol=1e-3, atol=1e-5)


def test_the_same_stream_trains_to_the_same_bits():
    first, second, other = flat_model(), flat_model(), flat_model()
    for model, seed in ((first, 1), (second, 1), (other, 2)):
        train_with(model, samples(), seed=seed, epochs=2, batch_size=3)
    assert torch.equal(first.weights, second.weights)
    assert not torch.equal(first.weights, other.weights)


def test_every_dispatch_starts_with_a_fresh_optimizer():
    twice, model = flat_model(), flat_model()
    train_with(twice, samples(), epochs=1, optimizer="sgd", momentum=0.9)
    middle = twice.weights.clone()
    train_with(twice, samples(), epochs=1, optimizer="sgd", momentum=0.9)
    model.load(middle)
    train_with(model, samples(), epochs=1, optimizer="sgd", momentum=0.9)
    assert torch.equal(twice.weights, model.weights)


def test_training_learns_labels_that_images_show():
    y = np.arange(30) % 3
    x = np.zeros((30, 1, 4, 4), dtype=np.float32)
    for label in range(3):
        x[y == label, 0, label] = 1.0
    loss = train_with(flat_model(SMALL.full_plan()), Samples(x, y), epochs=30, batch_size=10, learning_rate=0.01)
    assert loss < 0.1


def test_the_returned_loss_is_the_last_epochs_mean_for_the_deepest_exit():
    model, data = flat_model(), samples(6)
    still = {"epochs": 2, "batch_size": 3, "optimizer": "sgd", "learning_rate": 1e-12}
    loss = train_with(model, data, **still)
    logits = model_with(SMALL, random_state(SMALL), NARROW)(torch.from_numpy(data.x))[-1].detach()
    assert loss == pytest.approx(float(F.cross_entropy(logits, torch.from_numpy(data.y))), rel=1e-5)


def test_evaluation_reads_all_samples_in_order():
    data = samples(7)
    batches = list(evaluation_batches(data, 3))
    assert [len(y) for _, y in batches] == [3, 3, 1]
    assert torch.cat([y for _, y in batches]).tolist() == data.y.tolist()


@pytest.mark.parametrize(("count", "steps"), [(1, 3), (32, 3), (33, 6), (100, 12)])
def test_steps_are_epochs_times_batches(count, steps):
    assert TrainSettings(epochs=3, batch_size=32).steps(count) == steps


def test_training_is_float32_unless_asked_and_on_a_cpu_always():
    mixed = TrainSettings(precision="mixed")
    assert TrainSettings().precision == "float32"
    assert (mixed.on(True), mixed.on(False)) == (mixed, TrainSettings())
    assert TrainSettings().on(True) == TrainSettings()


@pytest.mark.parametrize("view", ["plain", "scaled"])
def test_training_that_keeps_no_activations_is_the_same_to_the_bit(view):
    data, changes = samples(7), []
    for checkpointing in (False, True):
        training = TrainSettings(epochs=2, batch_size=4, checkpointing=checkpointing)
        local = LocalSettings(view=view, kept=0.5, proximal=0.1)
        task = Task("train", 0, 0, 0, 1, SMALL, SMALL.full_plan(), training=training, local=local)
        assert task_from_json(task_to_json(task)) == task
        received = flatten(random_state(SMALL), task.spans)
        changes.append(Trainer({0: ClientSamples(data, data)}, {}, device="cpu").run(task, received))
    (plain, change), (twice, again) = changes
    assert torch.equal(change, again)
    assert change.any()
    assert {key: plain[key] for key in plain if not key.startswith("wall")} == {
        key: twice[key] for key in twice if not key.startswith("wall")
    }


def test_older_boards_are_told_of_checkpointing_only_where_it_is_asked_for():
    task = Task("train", 0, 0, 0, 1, SMALL, SMALL.full_plan())
    assert "checkpointing" not in task_to_json(task)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("optimizer", "adam"),
        ("precision", "half"),
        ("epochs", 0),
        ("batch_size", 0),
        ("learning_rate", 0.0),
        ("clip_norm", -1.0),
    ],
)
def test_settings_that_train_nothing_are_refused(name, value):
    with pytest.raises(ValueError, match=f"^{name} must be"):
        TrainSettings(**{name: value})
