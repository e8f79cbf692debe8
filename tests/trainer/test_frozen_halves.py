"""Frozen weights as halves from the server to the board: sent, kept, held and computed with as such."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from small_models import SMALL, random_state
from torch import Tensor

from cosp.server.contents import Contents
from cosp.submodel.flat import flatten, views
from cosp.submodel.shape import layout_of
from cosp.task.compression import CompressionSettings
from cosp.task.contents import content_of
from cosp.task.cut import Cut
from cosp.task.demand import download_bytes, upload_bytes
from cosp.task.scoring import ScoreSettings
from cosp.task.sent import apart, in_bytes, sent_bytes, to_bytes
from cosp.task.serial import task_from_json, task_to_json
from cosp.task.task import Task
from cosp.task.training import TrainSettings
from cosp.trainer.kept import Kept
from cosp.trainer.samples import ClientSamples, Samples
from cosp.trainer.trainer import Trainer

STATE, LAYOUT = random_state(SMALL), layout_of(SMALL)
HALVES = ("float16", "bfloat16")
FORMATS = list(product(HALVES, ("float32", "float16")))
PARTS = (("inputs",), ("norms",), ("blocks: 2",), ("norms", "blocks: 1"), ("blocks: 3",))


def samples(count: int, seed: int) -> Samples:
    rng = np.random.default_rng(seed)
    return Samples(rng.normal(size=(count, 1, 4, 4)).astype(np.float32), rng.integers(0, 3, count))


OWN = ClientSamples(samples(10, 0), samples(4, 1))


def task_with(frozen: tuple[str, ...], frozen_as: str, **more: object) -> Task:
    training = TrainSettings(epochs=2, batch_size=4, frozen=frozen, frozen_as=frozen_as)
    return replace(Task("train", 0, 0, 0, 1, SMALL, SMALL.full_plan(), training=training), **more)  # type: ignore[arg-type]


def in_float32(task: Task) -> Task:
    return replace(task, training=replace(task.training, frozen_as="float32"))


def received(task: Task) -> Tensor:
    """All weights of the task's submodel, end to end, as its client receives them."""
    return flatten(Cut(STATE, LAYOUT, task), task.spans)


def done(task: Task, *weights: Tensor | None) -> Tensor:
    return Trainer({0: OWN}, {}, device="cpu").run(task, *weights)[1]


def kept_by(task: Task) -> Task:
    """The same task to a client that has done one before."""
    return replace(task, kept=tuple(Contents().of(task, STATE).items()))


@pytest.mark.parametrize("parts", PARTS, ids=str)
@pytest.mark.parametrize("frozen_as", HALVES)
def test_the_update_is_that_of_float32_with_the_frozen_weights_rounded(parts, frozen_as):
    task = task_with(parts, frozen_as)
    weights = received(task)
    frozen = {name: tensor for name, tensor in views(weights, task.spans).items() if name in task.frozen_spans}
    kind = getattr(torch, frozen_as)
    assert all(torch.equal(tensor, STATE[name].to(kind).float()) for name, tensor in frozen.items())
    change = done(task, weights)
    assert torch.equal(change, done(in_float32(task), weights))
    assert not torch.equal(change, done(in_float32(task), received(in_float32(task))))
    assert torch.equal(done(replace(task, training=replace(task.training, checkpointing=True)), weights), change)


@pytest.mark.parametrize("kind", ["score", "moments"])
def test_scores_and_moments_are_those_of_the_rounded_weights(kind):
    task = task_with(("norms", "blocks: 2"), "bfloat16", kind=kind, scoring=ScoreSettings(samples=8))
    assert torch.equal(done(task, received(task)), done(in_float32(task), received(task)))


@pytest.mark.parametrize(("frozen_as", "down"), FORMATS)
def test_what_is_sent_first_and_later_is_kept_as_halves_and_trains_to_the_same_bits(frozen_as, down):
    task = task_with(("blocks: 2",), frozen_as, compression=CompressionSettings(down=down))
    expected, kept = done(task, received(task)), Kept()
    for one in (task, kept_by(task)):
        sent = to_bytes(one, Cut(STATE, LAYOUT, one))
        trained, frozen = kept.complete(one, torch.from_numpy(sent))
        assert (trained.dtype, frozen.dtype) == (torch.float32, getattr(torch, frozen_as))
        assert frozen.nbytes == 2 * task.size.frozen == task.size.frozen_bytes
        if not one.kept:  # nobody holds what was sent
            assert trained.untyped_storage().nbytes() == 4 * task.trained
        assert torch.equal(done(one, trained, frozen), expected)
        assert sent.nbytes == sent_bytes(one)
    assert kept_by(task).sent == task.trained


@pytest.mark.parametrize(("frozen_as", "down"), FORMATS)
def test_bytes_are_priced_as_they_are_sent(frozen_as, down):
    task = task_with(("blocks: 2",), frozen_as, compression=CompressionSettings(down=down))
    plain, each = in_float32(task), {"float32": 4, "float16": 2}[down]
    assert sent_bytes(task) == each * task.trained + 2 * task.size.frozen
    assert download_bytes(plain) - download_bytes(task) == (each - 2) * task.size.frozen
    assert upload_bytes(task) == upload_bytes(plain)
    assert not in_bytes(task_with((), frozen_as))
    assert sent_bytes(plain) == each * plain.parameters


def test_contents_are_of_values_however_they_are_held():
    task = task_with(("blocks: 2",), "bfloat16")
    found, kept = Contents().of(task, STATE), Kept()
    _, vector = kept.complete(task, torch.from_numpy(to_bytes(task, Cut(STATE, LAYOUT, task))))
    assert found == {name: content_of(tensor) for name, tensor in views(vector, task.frozen_spans).items()}
    assert found.keys() == Contents().of(in_float32(task), STATE).keys()
    assert not set(found.values()) & set(Contents().of(in_float32(task), STATE).values())
    rounded = {name: tensor.float() for name, tensor in views(vector, task.frozen_spans).items()}
    again = replace(in_float32(task), kept=tuple((name, content_of(tensor)) for name, tensor in rounded.items()))
    _, whole = kept.complete(again, torch.zeros(again.sent))
    assert whole.dtype == torch.float32
    assert torch.equal(whole, vector.float())


def test_bytes_that_are_not_of_the_task_are_refused():
    task = task_with(("blocks: 2",), "float16")
    for sent in (torch.zeros(3, dtype=torch.uint8), torch.zeros(task.sent)):
        with pytest.raises(ValueError, match=f"the weights must be {sent_bytes(task)} bytes, got"):
            apart(task, sent)


def test_a_task_survives_its_text_and_older_boards_are_told_only_where_it_is_asked_for():
    task = kept_by(task_with(("blocks: 2",), "bfloat16"))
    assert task_from_json(task_to_json(task)) == task
    assert "frozen_as" not in json.loads(task_to_json(in_float32(task)))["training"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"frozen_as": "half"}, "frozen_as must be one of .*, got 'half'"),
        ({"frozen_as": "float16", "precision": "mixed"}, "frozen_as float16 goes with precision float32"),
    ],
)
def test_wrong_formats_are_named(given, said):
    with pytest.raises(ValueError, match=said):
        TrainSettings(**given)
