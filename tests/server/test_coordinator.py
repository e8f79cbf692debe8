from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from small_models import SMALL, random_state, random_update, same_units
from torch import Tensor

from cosp.errors import ConfigError, RefusedUpdate
from cosp.fleet.introduction import Introduction
from cosp.merge.aggregation import ServerStep
from cosp.merge.staleness import WeightRule, constant, drift, polynomial
from cosp.methods.clients import ClientRecord
from cosp.methods.method import LocalTraining, Merging, Method, ServedModel, Submodels
from cosp.server.coordinator import Coordinator
from cosp.submodel.footprint import footprint
from cosp.submodel.plan import SubmodelPlan
from cosp.submodel.slicing import State
from cosp.task.demand import peak_memory_bytes
from cosp.task.scoring import ScoreSettings
from cosp.task.task import Task
from cosp.task.training import TrainSettings
from cosp.transfer import TransferSettings

NARROW = same_units(1, heads=(1,), attention_rows=(0, 3), hidden=(2, 4), ffn_rows=(5,))
OTHER = same_units(1, heads=(0,), attention_rows=(1, 2), hidden=(0, 1), ffn_rows=(4,))
FULL = SMALL.full_plan()
SCORES = torch.arange(24.0)  # of one block: 2 heads, 8 rows, 6 hidden, 8 rows


def client(number: int, samples: int = 100, memory_bytes: int = 10**9) -> Introduction:
    return Introduction(
        client=number, board="nano", link="wifi", keep=0.5, memory_bytes=memory_bytes, samples=samples, test_samples=5,
        class_counts=(samples, 0, 0),
    )  # fmt: skip


def coordinator(
    *plans: SubmodelPlan,
    weigh: WeightRule | None = None,
    scoring: ScoreSettings | None = None,
    step: ServerStep | None = None,
    max_staleness: int | None = None,
    memory_bytes: int = 10**9,
    chooses: Callable[[Introduction], bool] = lambda introduction: True,
) -> Coordinator:
    """A server whose client n always holds ``plans[n]``."""

    def plan(record: ClientRecord) -> SubmodelPlan:
        return plans[record.client]

    method = Method(
        name="test",
        submodels=Submodels(
            plan=plan,
            depth=lambda introduction: plans[introduction.client].depth,
            scoring=scoring,
            chooses=chooses,
        ),
        local=LocalTraining(transfer=TransferSettings()),
        merging=Merging(weigh=weigh or constant(), step=step or ServerStep()),
        model=ServedModel(evaluated=FULL),
    )
    return Coordinator(
        shape=SMALL,
        method=method,
        training=TrainSettings(),
        model=random_state(SMALL),
        clients=[client(n, memory_bytes=memory_bytes) for n in range(len(plans))],
        seed=3,
        max_staleness=max_staleness,
    )


def update(task: Task, seed: int = 1) -> State:
    return random_update(SMALL, task.plan, seed)


def test_a_task_names_version_plan_and_turn():
    server = coordinator(NARROW, FULL)
    task = server.next_task(0)
    assert (task.kind, task.client, task.version, task.turn, task.plan, task.seed) == ("train", 0, 0, 0, NARROW, 3)
    assert server.next_task(1).plan == FULL
    assert server.next_task(0).turn == 1
    assert (server.records[0].dispatches, server.records[0].last_version) == (2, 0)


def test_the_whole_model_is_sent_without_a_copy():
    server = coordinator(FULL)
    weights = server.weights(server.next_task(0))
    assert all(weights[name] is tensor for name, tensor in server.model.items())


def test_missing_scores_come_first_and_old_ones_are_renewed():
    server = coordinator(NARROW, scoring=ScoreSettings(refresh_dispatches=2))
    kinds = []
    for _ in range(7):
        task = server.next_task(0)
        kinds.append(task.kind)
        if task.kind == "score":
            assert task.plan == SMALL.full_plan(1)
            server.take_scores(task, SCORES)
    assert kinds == ["score", "train", "train", "score", "train", "train", "score"]
    assert server.records[0].scores[0]["hidden"].tolist() == [10.0, 11.0, 12.0, 13.0, 14.0, 15.0]


@pytest.mark.parametrize("scores", [SCORES[:-1], SCORES / 0])
def test_wrong_scores_are_refused_and_forgotten(scores):
    server = coordinator(NARROW, scoring=ScoreSettings())
    with pytest.raises(RefusedUpdate, match="^malformed: scores must be 24"):
        server.take_scores(server.next_task(0), scores)
    assert server.records[0].scores is None


def test_a_round_merges_what_arrived():
    server = coordinator(FULL, FULL)
    first, second = server.next_task(0), server.next_task(1)
    before = dict(server.model)
    assert server.take_update(first, update(first, 1), samples=25) == 25
    assert server.take_update(second, update(second, 2), samples=75) == 75
    closed = server.close_round(in_flight=[])
    assert (closed.version, closed.arrivals, closed.coverage) == (1, 2, (1.0, 1.0, 1.0))
    assert (server.version, server.arrivals) == (1, 0)
    for name, old in before.items():
        expected = old + 0.25 * random_state(SMALL, 1)[name] + 0.75 * random_state(SMALL, 2)[name]
        torch.testing.assert_close(server.model[name], expected, rtol=1e-5, atol=1e-6)


def test_a_merge_that_holds_infinity_never_becomes_a_version():
    """Each update is finite, their sum is not."""
    server = coordinator(FULL, FULL)
    tasks, before = [server.next_task(0), server.next_task(1)], server.model
    for task in tasks:
        server.take_update(task, {name: tensor * 0 + 3e38 for name, tensor in update(task).items()}, samples=100)
    with pytest.raises(RefusedUpdate, match="^non-finite: the merge of 2 updates"):
        server.close_round(in_flight=[])
    assert (server.version, server.arrivals, server.velocity) == (0, 0, {})
    assert server.model is before
    server.take_update(tasks[0], update(tasks[0]), samples=100)
    assert server.close_round(in_flight=[]).version == 1


def test_a_round_of_one_narrow_client_leaves_the_rest_alone():
    server = coordinator(NARROW)
    task, before = server.next_task(0), dict(server.model)
    server.take_update(task, update(task), samples=10)
    closed = server.close_round(in_flight=[])
    assert 0 < closed.coverage[0] < 1
    assert closed.coverage[1:] == (0.0, 0.0)
    changed = {name for name, tensor in server.model.items() if not torch.equal(tensor, before[name])}
    assert not any(name.startswith(("blocks.1", "blocks.2", "exits.1", "exits.2")) for name in changed)
    assert server.model["blocks.2.ffn.up.weight"] is before["blocks.2.ffn.up.weight"]


def test_staleness_counts_versions_closed_since_the_dispatch():
    server = coordinator(FULL, FULL, weigh=polynomial(1.0))
    slow = server.next_task(1)
    for version in range(3):
        quick = server.next_task(0)
        assert quick.version == version
        server.take_update(quick, update(quick), samples=100)
        server.close_round(in_flight=[slow])
    assert server.take_update(slow, update(slow), samples=100) == 25.0


def test_who_is_heard_seldom_waits_since_its_last_merged_update():
    server = coordinator(NARROW, OTHER, weigh=lambda arrival: float(arrival.waited))
    slow, weights = server.next_task(1), []
    for _ in range(3):
        task = server.next_task(0)
        weights.append(server.take_update(task, random_update(SMALL, task.plan, 0), 50))
        server.close_round([slow])
    late = server.take_update(slow, random_update(SMALL, slow.plan, 1), 50)
    assert (weights, late) == ([1.0, 1.0, 1.0], 4.0)
    assert server.records[1].merged_at == 4


def test_the_drift_rule_by_hand():
    server = coordinator(FULL, NARROW, weigh=drift())
    slow, quick = server.next_task(1), server.next_task(0)
    assert server.take_update(quick, update(quick), samples=1) == pytest.approx(
        norm(update(quick)) / 1.0 / 1.0, rel=1e-5
    )
    server.close_round(in_flight=[slow])
    keep = slow.parameters / quick.parameters
    moved = norm({name: server.model[name] - random_state(SMALL)[name] for name in server.model})
    expected = norm(update(slow)) / keep / (moved + 1)
    assert server.take_update(slow, update(slow), samples=1) == pytest.approx(expected, rel=1e-5)


def norm(tensors: State) -> float:
    return sum(float(tensor.abs().sum()) for tensor in tensors.values())


def test_only_versions_in_use_are_kept():
    server = coordinator(FULL, FULL)
    slow = server.next_task(1)
    for _ in range(3):
        quick = server.next_task(0)
        server.take_update(quick, update(quick), samples=1)
        server.close_round(in_flight=[slow])
        assert sorted(server.snapshots) == [0, server.version]
    server.close_round(in_flight=[])
    assert sorted(server.snapshots) == [4]


def test_momentum_goes_on_from_round_to_round():
    server = coordinator(FULL, step=ServerStep(rate=1.0, momentum=0.5))
    start = dict(server.model)
    for _ in range(2):
        task = server.next_task(0)
        server.take_update(task, update(task), samples=1)
        server.close_round(in_flight=[])
    for name, delta in update(task).items():
        torch.testing.assert_close(server.model[name], start[name] + 2.5 * delta, rtol=1e-4, atol=1e-5)


def without(delta: State, name: str) -> State:
    return {key: tensor for key, tensor in delta.items() if key != name}


def replaced(delta: State, name: str, tensor: Tensor) -> State:
    return {**delta, name: tensor}


@pytest.mark.parametrize(
    ("reason", "spoil", "samples"),
    [
        ("malformed", lambda delta: without(delta, "positions"), 10),
        ("malformed", lambda delta: replaced(delta, "surprise", torch.zeros(1)), 10),
        ("malformed", lambda delta: replaced(delta, "class_token", torch.zeros(1, 1, 9)), 10),
        ("malformed", lambda delta: replaced(delta, "class_token", torch.zeros(8)), 10),
        ("malformed", lambda delta: {}, 10),
        ("non-finite", lambda delta: replaced(delta, "class_token", torch.full((1, 1, 8), float("nan"))), 10),
        ("non-finite", lambda delta: replaced(delta, "class_token", torch.full((1, 1, 8), float("-inf"))), 10),
        ("samples", lambda delta: delta, 101),
        ("samples", lambda delta: delta, 0),
    ],
)
def test_a_refused_update_leaves_the_round_as_it_was(reason, spoil, samples):
    server, untouched = coordinator(FULL, NARROW), coordinator(FULL, NARROW)
    for one in (server, untouched):
        task = one.next_task(0)
        one.take_update(task, update(task), samples=10)
    task = server.next_task(1)
    with pytest.raises(RefusedUpdate, match=f"^{reason}: ") as refused:
        server.take_update(task, spoil(update(task, 2)), samples)
    assert refused.value.reason == reason
    assert server.arrivals == 1
    assert server.close_round([]) == untouched.close_round([])
    assert all(torch.equal(server.model[name], tensor) for name, tensor in untouched.model.items())


def test_an_update_that_is_too_old_is_refused():
    server = coordinator(FULL, FULL, max_staleness=1)
    slow = server.next_task(1)
    for closed in range(3):
        if closed == 1:
            assert server.take_update(slow, update(slow), samples=1) == 1
        server.close_round(in_flight=[slow])
    with pytest.raises(RefusedUpdate, match="^stale: 3 versions old, at most 1"):
        server.take_update(slow, update(slow), samples=1)
    assert server.arrivals == 0


def test_a_restored_server_goes_on_like_the_first():
    first = coordinator(FULL, NARROW, step=ServerStep(momentum=0.9))
    for _ in range(2):
        task = first.next_task(0)
        first.take_update(task, update(task), samples=5)
        first.close_round([])
    second = coordinator(FULL, NARROW, step=ServerStep(momentum=0.9))
    second.restore(first.version, first.snapshots, first.velocity)
    for server in (first, second):
        task = server.next_task(1)
        assert task.version == 2
        server.take_update(task, update(task), samples=5)
        server.close_round([])
    assert all(torch.equal(first.model[name], tensor) for name, tensor in second.model.items())


def test_a_board_with_little_memory_scores_a_few_samples_at_a_time():
    scoring, size = ScoreSettings(batch_size=16), footprint(SMALL, FULL.counts)
    task = coordinator(FULL, scoring=scoring, memory_bytes=size.scoring_bytes(3)).next_task(0)
    assert (task.kind, task.scoring) == ("score", replace(scoring, micro_batch=3))
    assert peak_memory_bytes(task) <= size.scoring_bytes(3)


def test_a_board_that_cannot_score_is_named_before_the_run():
    with pytest.raises(ConfigError, match=r"^client 0 \(nano\): scoring 3 blocks at full width takes .* there are 100"):
        coordinator(FULL, scoring=ScoreSettings(), memory_bytes=100)


def test_a_board_that_holds_every_unit_need_not_be_able_to_score():
    server = coordinator(FULL, scoring=ScoreSettings(), memory_bytes=100, chooses=lambda introduction: False)
    task = server.next_task(0)
    assert (task.kind, task.scoring) == ("train", None)


def test_a_clients_news_is_taken_once_and_its_scoring_follows():
    scoring, size = ScoreSettings(batch_size=16), footprint(SMALL, FULL.counts)
    server = coordinator(FULL, scoring=scoring)
    known = server.records[0].introduction
    less = replace(known.budget, memory_bytes=size.scoring_bytes(3))
    assert not server.learn(0, known.budget)
    assert server.learn(0, less)
    assert not server.learn(0, less)
    assert server.next_task(0).scoring == replace(scoring, micro_batch=3)


def test_who_can_hold_nothing_sits_out_until_it_can():
    server = coordinator(FULL, NARROW, scoring=ScoreSettings())
    budget = server.records[1].introduction.budget
    assert server.learn(1, replace(budget, memory_bytes=100))
    assert server.sitting_out == (1,)
    assert server.records[1].sits_out.startswith("client 1 (nano): scoring 1 blocks at full width takes")
    assert server.learn(1, budget)
    assert server.sitting_out == ()


def test_scores_of_fewer_blocks_than_a_client_now_holds_are_renewed():
    server = coordinator(FULL, scoring=ScoreSettings())
    server.records[0].scores = tuple({} for _ in range(2))
    assert server.next_task(0).kind == "score"
    server.records[0].scores = tuple({} for _ in range(3))
    assert server.next_task(0).kind == "train"
