"""The law: a board that holds the rows of its own words alone trains them to the same bits as with the whole table."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from small_models import BERT_TRUNK, random_state
from torch import Tensor

from cosp.models import TextShape
from cosp.submodel.flat import flatten, views
from cosp.submodel.shape import FRESH, layout_of
from cosp.submodel.slicing import State, extract, slice_of
from cosp.submodel.words import joined, words_in
from cosp.task.local import LocalSettings
from cosp.task.scoring import ScoreSettings
from cosp.task.task import Task
from cosp.task.training import TrainSettings
from cosp.trainer.samples import ClientSamples, Samples
from cosp.trainer.trainer import Trainer

TEXTS = TextShape(
    vocabulary=400, length=6, classes=3, dim=16, blocks=2, heads=2, hidden=12, exits=(1, 2), padding=0, unknown=1
)
TABLE = "inputs.weight"
HELD_BACK = 7


def texts(count: int, seed: int) -> Samples:
    rng = np.random.default_rng(seed)
    x = rng.choice(rng.choice(np.arange(2, 400), 40, replace=False), (count, 6)).astype(np.int32)
    x[::3, 4:] = 0
    return Samples(x, rng.integers(0, 3, count))


OWN = ClientSamples(texts(30, 1), texts(HELD_BACK, 2))
WORDS = joined(words_in((OWN.train.x, OWN.test.x)), (0, 1))


def done(task: Task, state: State | None = None) -> tuple[dict[str, object], Tensor, Task]:
    received = flatten(extract(state or random_state(task.shape), layout_of(task.shape), task.plan), task.spans)
    torch.set_num_threads(1)
    facts, vector = Trainer({0: OWN}, {}, device="cpu").run(task, received)
    return {name: value for name, value in facts.items() if not name.startswith("wall")}, vector, task


def task_with(words: tuple[int, ...] | None, shape: TextShape = TEXTS, kind: str = "train", **more: object) -> Task:
    settings = TrainSettings(**{"epochs": 2, "batch_size": 8, **more})  # type: ignore[arg-type]
    plan = replace(shape.full_plan(), words=words)
    return Task(kind, 0, 0, 0, 1, shape, plan, training=settings, scoring=ScoreSettings(samples=16))


def test_there_are_fewer_words_than_rows():
    assert len(WORDS) < 100 < TEXTS.vocabulary


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("clip_norm", [None, 0.1], ids=["unclipped", "clipped"])
@pytest.mark.parametrize("trunk", [FRESH, BERT_TRUNK], ids=["fresh", "bert"])
def test_own_words_alone_train_to_the_same_bits(optimizer, clip_norm, trunk):
    settings = {"optimizer": optimizer, "clip_norm": clip_norm, "weight_decay": 0.0}
    shape = replace(TEXTS, trunk=trunk)
    whole_facts, whole, task = done(task_with(None, shape, **settings))
    own_facts, own, _ = done(task_with(WORDS, shape, **settings))
    plan = replace(shape.full_plan(), words=WORDS)
    expected = {
        name: slice_of(change, layout_of(shape)[name], plan) for name, change in views(whole, task.spans).items()
    }
    held = replace(task, plan=plan)
    assert own_facts == whole_facts
    assert {name for name, change in views(own, held.spans).items() if not torch.equal(change, expected[name])} == set()
    assert float(expected[TABLE].abs().max()) > 0
    others = [word for word in range(shape.vocabulary) if word not in WORDS]
    assert not views(whole, task.spans)[TABLE][others].any()  # so the whole update is the same


def test_decay_shrinks_the_rows_that_a_board_holds_and_no_others():
    """With the whole table every row shrinks at every step, of words that no text has too; with own words they stay."""
    _, whole, task = done(task_with(None, weight_decay=0.1))
    _, own, held = done(task_with(WORDS, weight_decay=0.1))
    change = views(whole, task.spans)[TABLE]
    assert torch.equal(views(own, held.spans)[TABLE], change[list(WORDS)])
    others = [word for word in range(TEXTS.vocabulary) if word not in WORDS]
    left = (1 - task.training.learning_rate * 0.1) ** task.training.steps(30)
    expected = random_state(TEXTS)[TABLE][others] * (left - 1)
    assert torch.allclose(change[others], expected, atol=1e-6)


@pytest.mark.parametrize("kind", ["score", "moments"])
def test_scores_and_moments_are_the_same_with_own_words(kind):
    assert torch.equal(done(task_with(None, kind=kind))[1], done(task_with(WORDS, kind=kind))[1])


@pytest.mark.parametrize("view", ["platon", "fiarse"])
def test_masking_methods_train_some_words_too(view):
    task = replace(task_with(WORDS), local=LocalSettings(view=view, kept=0.9))
    assert done(task)[1].numel() == task.parameters


def test_a_submodel_inside_a_submodel_has_the_same_words():
    inner = TEXTS.full_plan(1)
    outer = replace(task_with(None, weight_decay=0.0), within=(inner,))
    whole, own = done(outer), done(replace(outer, plan=replace(outer.plan, words=WORDS)))
    assert torch.equal(views(own[1], own[2].spans)[TABLE], views(whole[1], outer.spans)[TABLE][list(WORDS)])


def test_a_word_that_came_to_the_board_later_is_read_as_the_unknown_one():
    fewer = tuple(word for word in WORDS if word != OWN.train.x[0, 0])
    assert done(task_with(fewer))[1].numel() == task_with(fewer).parameters
    with pytest.raises(ValueError, match="start the board's node anew"):
        done(task_with(fewer, replace(TEXTS, unknown=None)))
