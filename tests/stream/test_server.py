"""Which set a board is to have: new ones on trial first, on canaries if there are some, and back if they are worse."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from cosp.adaptation.batches import Batch
from cosp.adaptation.upward import Report
from cosp.stream.server import AdaptingServer, Trials
from cosp.submodel.slicing import State


class Scripted:
    """Has a new model each time that a board sends a sample: the number of samples by then."""

    def __init__(self, model: State) -> None:
        self.samples, self._new = 0, False
        self.went_back: list[float] = []

    def take(self, client: int, report: Report, batches: Any) -> list[dict[str, Any]]:
        self.samples += sum(len(batch.x) for batch in batches)
        self._new |= bool(batches)
        return []

    def model(self) -> State | None:
        fresh, self._new = self._new, False
        return {"w": torch.tensor(float(self.samples))} if fresh else None

    def go_back(self, model: State) -> None:
        self.went_back.append(float(model["w"]))

    def teach(self, clients: Any) -> None:
        self.clients = list(clients)

    def state(self, keep: Any) -> dict[str, Any]:
        return {}

    def restore(self, state: Any, take: Any) -> None:
        pass


def server(*groups: list[int], trials: Trials | None) -> tuple[AdaptingServer, list[Scripted]]:
    made: list[Scripted] = []

    def learner(number: int, clients: Any, model: State) -> Scripted:
        made.append(Scripted(model))
        return made[-1]

    start = {"w": torch.tensor(0.0)}
    return AdaptingServer(start, {}, classes=2, groups=groups, learner=learner, trials=trials), made


def says(one: AdaptingServer, client: int, uncertainty: float, samples: int = 0, version: int = 0) -> list[str]:
    report = Report(version=version, samples=9, uncertainty=uncertainty, predicted=np.zeros(2, np.int64))
    return [row["kind"] for row in one.take(client, report, [Batch(torch.zeros(samples, 1))] if samples else [])]


def has(one: AdaptingServer, client: int) -> float:
    return float(one.target(client).model["w"])


def test_without_trials_a_new_set_is_for_all_at_once() -> None:
    one, _ = server([0, 1], trials=None)
    assert says(one, 0, 0.2, samples=3) == ["set"]
    assert (has(one, 0), has(one, 1)) == (3, 3)


def test_a_bad_set_is_taken_back_and_what_was_learned_with_it_forgotten() -> None:
    one, (learner,) = server([0, 1], trials=Trials(windows=1, margin=0.05))
    assert says(one, 0, 0.2) == []
    assert says(one, 1, 0.2, samples=3) == ["set"]
    assert (has(one, 0), has(one, 1)) == (3, 3)
    assert says(one, 0, 0.9, samples=1, version=1) == ["rollback", "set"]
    assert learner.went_back == [0.0]
    assert has(one, 0) == 4  # learned anew, from the last good one on


def test_a_set_on_trial_is_for_canaries_alone_and_then_for_all() -> None:
    one, _ = server([0, 1, 2], trials=Trials(windows=1, margin=0.05, canaries=frozenset({2})))
    says(one, 2, 0.2)
    assert says(one, 0, 0.2, samples=3) == ["set"]
    assert [has(one, client) for client in range(3)] == [0, 0, 3]
    assert says(one, 0, 0.2, samples=2) == []  # one is on trial at a time
    assert says(one, 2, 0.2, version=1) == ["kept", "set"]
    assert [has(one, client) for client in range(3)] == [3, 3, 5]


def test_canaries_that_are_less_sure_go_back_and_nobody_else_ever_had_it() -> None:
    one, _ = server([0, 1, 2], trials=Trials(windows=1, margin=0.05, canaries=frozenset({2})))
    says(one, 2, 0.2)
    says(one, 0, 0.2, samples=3)
    assert says(one, 2, 0.9, version=1) == ["rollback"]
    assert [has(one, client) for client in range(3)] == [0, 0, 0]


def test_groups_have_sets_of_their_own() -> None:
    one, _ = server([0], [1], trials=None)
    says(one, 0, 0.2, samples=3)
    says(one, 1, 0.2, samples=4)
    assert (has(one, 0), has(one, 1)) == (3, 4)
    assert one.target(0).version != one.target(1).version
