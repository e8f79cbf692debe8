"""Training leaves what is frozen as it is, and trains the rest as if the frozen part were no parameters at all."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_models import SMALL, random_state
from torch import Tensor

from cosp.submodel.flat import flatten, views
from cosp.submodel.frozen import frozen_of
from cosp.submodel.plan import prefix_plan
from cosp.submodel.shape import layout_of
from cosp.submodel.slicing import extract
from cosp.task.compression import CompressionSettings
from cosp.task.contents import content_of
from cosp.task.demand import download_bytes, upload_bytes
from cosp.task.local import LocalSettings
from cosp.task.payload import from_payload, to_payload
from cosp.task.scoring import ScoreSettings
from cosp.task.serial import task_from_json, task_to_json
from cosp.task.task import Task
from cosp.task.training import TrainSettings
from cosp.trainer.kept import Kept, NotKept
from cosp.trainer.samples import ClientSamples, Samples
from cosp.trainer.trainer import Trainer

PARTS = (("inputs",), ("norms",), ("blocks: 2",), ("norms", "blocks: 1"), ("blocks: 3",))
STATE = random_state(SMALL)


def samples(count: int, seed: int) -> Samples:
    rng = np.random.default_rng(seed)
    return Samples(rng.normal(size=(count, 1, 4, 4)).astype(np.float32), rng.integers(0, 3, count))


OWN = ClientSamples(samples(10, 0), samples(4, 1))


def task_with(frozen: tuple[str, ...], **more: object) -> Task:
    training = TrainSettings(epochs=1, batch_size=4, clip_norm=None, frozen=frozen, weight_decay=0.1)
    return replace(Task("train", 0, 0, 0, 1, SMALL, SMALL.full_plan(), training=training), **more)  # type: ignore[arg-type]


def weights_of(task: Task) -> Tensor:
    return flatten(extract(STATE, layout_of(SMALL), task.plan), task.spans)


def trained(task: Task) -> dict[str, Tensor]:
    received = weights_of(task)
    before = received.clone()
    _, change = Trainer({0: OWN}, {}, device="cpu").run(task, received)
    assert torch.equal(received, before)
    return views(change, task.trained_spans)


@pytest.mark.parametrize("parts", PARTS, ids=str)
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_one_step_moves_what_is_trained_as_without_freezing(parts, optimizer):
    """After one step the two can differ by nothing: the gradients of what is trained are the same."""
    one_step = {"epochs": 1, "batch_size": 10, "optimizer": optimizer}
    task = task_with(parts)
    task = replace(task, training=replace(task.training, **one_step))
    whole = trained(replace(task, training=replace(task.training, frozen=())))
    found = trained(task)
    left = {name for name, entry in layout_of(SMALL).items() if frozen_of(parts).holds(entry)}
    assert found.keys() == whole.keys() - left
    assert all(torch.allclose(found[name], whole[name], atol=2e-6) for name in found)
    assert any(bool(change.any()) for change in found.values())


@pytest.mark.parametrize("parts", PARTS, ids=str)
def test_a_reply_holds_what_is_trained_alone(parts):
    for up in ("float32", "int8"):
        task = task_with(parts, compression=CompressionSettings(up=up))
        change = torch.randn(task.trained)
        sent = to_payload(task, change)
        assert sent.nbytes == upload_bytes(task)
        assert from_payload(task, sent).shape == change.shape
    assert task.trained < task.parameters


@pytest.mark.parametrize("kind", ["score", "moments"])
def test_scores_and_moments_do_not_depend_on_what_is_frozen(kind):
    more = {"kind": kind, "scoring": ScoreSettings(samples=8)}
    tasks = [task_with(parts, **more) for parts in ((), ("norms", "blocks: 2"))]
    found = [Trainer({0: OWN}, {}, device="cpu").run(task, weights_of(task))[1] for task in tasks]
    assert torch.equal(*found)


def test_heterofls_scaler_and_smaller_submodels_leave_the_trunk_alone():
    plan = replace(
        SMALL.full_plan(), blocks=SMALL.full_plan().blocks[:1] + prefix_plan(SMALL.sizes.scaled(0.5), 3).blocks[1:]
    )
    inner = replace(plan, blocks=plan.blocks[:2])
    for task in (
        task_with(("blocks: 1",), plan=plan, local=LocalSettings(view="scaled")),
        task_with(("blocks: 1",), plan=plan, within=(inner,)),
        task_with(("blocks: 1",), plan=plan, local=LocalSettings(proximal=0.1)),
    ):
        change = trained(task)
        assert not any(name.startswith("blocks.0") for name in change)
        assert change["blocks.1.ffn.up.weight"].any()


def kept_by(task: Task, tensors: dict[str, Tensor]) -> Task:
    """The same task to a client that has the frozen ``tensors``."""
    return replace(task, kept=tuple((name, content_of(tensor)) for name, tensor in tensors.items()))


FROZEN = task_with(("blocks: 2",))


def test_what_is_kept_is_not_sent_and_trains_to_the_same_bits():
    first, trainer, kept = weights_of(FROZEN), Trainer({0: OWN}, {}, device="cpu"), Kept()
    fresh = trainer.run(FROZEN, *kept.complete(FROZEN, first))[1]
    assert torch.equal(fresh, trainer.run(FROZEN, first)[1])
    frozen = {name: view for name, view in views(first, FROZEN.spans).items() if name in FROZEN.frozen_spans}
    second = kept_by(FROZEN, frozen)
    assert second.sent == second.trained
    again = trainer.run(second, *kept.complete(second, first[-second.trained :]))[1]
    assert torch.equal(again, fresh)
    assert download_bytes(FROZEN) - download_bytes(second) == 4 * FROZEN.size.frozen - 16 * len(frozen)


def test_of_what_is_kept_some_may_be_sent_anew():
    kept, first = Kept(), weights_of(FROZEN)
    kept.complete(FROZEN, first)
    frozen = {name: view for name, view in views(first, FROZEN.spans).items() if name in FROZEN.frozen_spans}
    changed = frozen.pop("positions") + 1
    second = kept_by(FROZEN, frozen)
    sent = torch.cat([changed.reshape(-1), first[-second.trained :]])
    weights, found = kept.complete(second, sent)
    assert torch.equal(weights, first[-second.trained :])
    assert torch.equal(views(found, second.frozen_spans)["positions"], changed)
    assert torch.equal(views(found, second.frozen_spans)["blocks.1.ffn.up.weight"], frozen["blocks.1.ffn.up.weight"])


def test_a_trainer_that_has_not_what_the_server_thinks_says_so():
    frozen = {"positions": STATE["positions"]}
    task = kept_by(FROZEN, frozen)
    with pytest.raises(NotKept, match="^positions: is not kept here"):
        Kept().complete(task, torch.zeros(task.sent))


def test_a_task_survives_its_text():
    task = kept_by(FROZEN, {"positions": STATE["positions"]})
    assert task_from_json(task_to_json(task)) == task
    older = task_to_json(task_with(()))
    assert "kept" not in json.loads(older)
    assert "frozen" not in json.loads(older)["training"]
