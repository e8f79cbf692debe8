"""The server's side: who adapts with whom, which set is good, which one is on trial, and what each board is to have."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any, Protocol

from torch import Tensor

from cosp.adaptation.batches import Batch
from cosp.adaptation.kept import Keep, Take, kept_tensors, taken_tensors
from cosp.adaptation.upward import Report
from cosp.stream.clusters import Clustering, matched
from cosp.stream.trial import Trial
from cosp.submodel.flat import flatten, spans_of
from cosp.submodel.layout import Layout
from cosp.submodel.plan import SubmodelPlan
from cosp.submodel.slicing import State, extract

Row = dict[str, Any]


class Learner(Protocol):
    """What makes a better model of what boards send."""

    def take(self, client: int, report: Report, batches: Sequence[Batch]) -> list[Row]:
        """Take what a board sent, and learn if that is enough; return what was done, and what was refused."""

    def model(self) -> State | None:
        """Return the whole model as it is by now; None if nothing was learned since this was last asked."""

    def go_back(self, model: State) -> None:
        """Forget what was learned since ``model``."""

    def teach(self, clients: Sequence[int]) -> None:
        """Learn for these boards from now on."""

    def state(self, keep: Keep) -> Row:
        """Return where it stands, as JSON values."""

    def restore(self, state: Row, take: Take) -> None:
        """Undo ``state``."""


MakeLearner = Callable[[int, Sequence[int], State], Learner]
"""Makes the learner of a group: its number, its boards and the trained model."""


@dataclass(frozen=True, kw_only=True)
class Published:
    """A set of weights that boards of ``group`` may be sent: the whole ``model``, cut for each board's plan."""

    version: int
    group: int
    model: State
    layout: Layout

    def weights(self, plan: SubmodelPlan) -> Tensor:
        """Return the submodel of ``plan`` end to end."""
        return flatten(extract(self.model, self.layout, plan), spans_of(self.layout, plan.counts))


@dataclass(frozen=True, kw_only=True)
class InUse:
    """A set, and the boards that it is for; ``on_trial``: these try it, and fall back on their group's good one."""

    published: Published
    clients: tuple[int, ...]
    on_trial: bool


class Server(Protocol):
    """What the loop asks of the server's side."""

    classes: int

    def target(self, client: int) -> Published:
        """Return what ``client`` is to have now."""

    def take(self, client: int, report: Report, batches: Sequence[Batch]) -> list[Row]:
        """Take a board's report and the samples that it sent; return rows of what follows from it."""


@dataclass(frozen=True, kw_only=True)
class Trials:
    """How long a new set is on trial, and on which boards; none: on all."""

    windows: int
    margin: float
    canaries: frozenset[int] = frozenset()


class Group:
    """Boards that share one adapted model."""

    def __init__(self, number: int, clients: Sequence[int], learner: Learner, good: Published) -> None:
        self.number, self.clients, self.learner = number, tuple(clients), learner
        self.good = good
        self.candidate: Published | None = None
        self.trial: Trial | None = None
        self.sure: defaultdict[int, deque[float]] = defaultdict(deque)
        """By client, how unsure it was in its last windows."""

    @property
    def watched(self) -> frozenset[int]:
        return frozenset() if self.trial is None else self.trial.watched


class AdaptingServer:
    """Holds what boards are to have. ``trials`` None: a new set is for all boards at once, and none is taken back."""

    def __init__(
        self,
        model: State,
        layout: Layout,
        *,
        classes: int,
        groups: Sequence[Sequence[int]],
        learner: MakeLearner,
        trials: Trials | None,
        clustering: Clustering | None = None,
    ) -> None:
        self.classes = classes
        self._learner, self._trials, self._clustering = learner, trials, clustering
        self._version = 0
        first = self._first = Published(version=0, group=0, model=model, layout=layout)
        self._groups = [self._group(number, clients, first) for number, clients in enumerate(groups)]
        self._numbers = len(groups)
        """How many groups there have been."""
        self._of = {client: group for group in self._groups for client in group.clients}

    def _group(self, number: int, clients: Sequence[int], good: Published) -> Group:
        learner = self._learner(number, clients, self._first.model)
        return Group(number, clients, learner, replace(good, group=number))

    def target(self, client: int) -> Published:
        """Return what ``client`` is to have now."""
        group = self._of[client]
        tries = group.candidate is not None and (group.trial is None or client in group.trial.watched)
        return group.candidate if tries and group.candidate is not None else group.good

    def in_use(self) -> list[InUse]:
        """Return the sets that boards have, or are about to: the last good one of each group, then those on trial."""
        good: dict[int, InUse] = {}
        for group in self._groups:
            known = good.get(group.good.version)  # version 0, as it was trained, may be that of several groups
            clients = sorted([*(known.clients if known else ()), *group.clients])
            good[group.good.version] = InUse(published=group.good, clients=tuple(clients), on_trial=False)
        tried = [
            InUse(published=group.candidate, clients=tuple(sorted(group.watched)), on_trial=True)
            for group in self._groups
            if group.candidate is not None
        ]
        return [*good.values(), *tried]

    def take(self, client: int, report: Report, batches: Sequence[Batch]) -> list[Row]:
        """Take a board's report and the samples that it sent; return rows of what follows from it."""
        group = self._of[client]
        rows = self._judge(group, client, report)
        known = group.sure[client]
        known.append(report.uncertainty)
        if self._trials is not None and len(known) > self._trials.windows:
            known.popleft()
        rows += [{**row, "group": group.number} for row in group.learner.take(client, report, batches)]
        rows += self._publish(group)
        found = None if self._clustering is None else self._clustering.take(client, report, batches)
        return rows if found is None else [*rows, *self._regroup(found)]

    def _regroup(self, found: Sequence[Sequence[int]]) -> list[Row]:
        """Have a set for each cluster. One that is new begins with the good set of the group that its first board was
        in; a trial begins anew where others are in a group by now.
        """
        before = {group.number: group for group in self._groups}
        if sorted(map(tuple, found)) == sorted(group.clients for group in self._groups):
            return []
        groups = []
        goes_on = matched(found, {number: group.clients for number, group in before.items()})
        for clients, number in zip(found, goes_on, strict=True):
            if number is None:
                origin = self._of[clients[0]]
                group = self._group(self._numbers, clients, origin.good)
                group.learner.go_back(origin.good.model)
                self._numbers += 1
            else:
                group = before[number]
                group.clients = tuple(clients)
                group.learner.teach(clients)
            groups.append(group)
        sure = {client: self._of[client].sure[client] for client in self._of}
        self._groups = sorted(groups, key=lambda group: group.number)
        self._of = {client: group for group in self._groups for client in group.clients}
        for group in self._groups:
            group.sure = defaultdict(deque, {client: sure[client] for client in group.clients})
            if group.candidate is not None and group.trial is not None:
                group.trial = self._trial_of(group, group.candidate.version)
        return [{"kind": "clusters", "groups": [[group.number, list(group.clients)] for group in self._groups]}]

    def state(self, keep: Keep) -> Row:
        """Return all that it has learned and heard, as JSON values."""
        return {
            "version": self._version,
            "numbers": self._numbers,
            "groups": [self._group_state(group, keep) for group in self._groups],
            "clustering": None if self._clustering is None else self._clustering.state(),
        }

    def restore(self, state: Row, take: Take) -> None:
        """Undo ``state``."""
        self._version, self._numbers = state["version"], state["numbers"]
        if self._clustering is not None:
            self._clustering.restore(state["clustering"])
            self._groups = [self._group(one["number"], one["clients"], self._first) for one in state["groups"]]
            self._of = {client: group for group in self._groups for client in group.clients}
        for group, saved in zip(self._groups, state["groups"], strict=True):
            group.good = self._published(group, saved["good"], take)
            if saved["candidate"] is not None:
                group.candidate = self._published(group, saved["candidate"], take)
            if saved["trial"] is not None and self._trials is not None:
                trials = self._trials
                group.trial = Trial.of_state(saved["trial"], windows=trials.windows, margin=trials.margin)
            group.sure.update({int(client): deque(known) for client, known in saved["sure"].items()})
            group.learner.restore(saved["learner"], take)

    def _group_state(self, group: Group, keep: Keep) -> Row:
        sets = {
            name: None if one is None else [one.version, kept_tensors(self._changed(one.model), keep)]
            for name, one in (("good", group.good), ("candidate", group.candidate))
        }
        return {
            **sets,
            "number": group.number,
            "clients": list(group.clients),
            "trial": None if group.trial is None else group.trial.state(),
            "sure": {str(client): list(known) for client, known in group.sure.items()},
            "learner": group.learner.state(keep),
        }

    def _changed(self, model: State) -> State:
        """Return the tensors that are others than those of the trained model."""
        return {name: tensor for name, tensor in model.items() if tensor is not self._first.model[name]}

    def _published(self, group: Group, saved: Sequence[Any], take: Take) -> Published:
        version, changed = saved
        model = {**self._first.model, **taken_tensors(changed, take)}
        return replace(self._first, version=version, group=group.number, model=model)

    def _judge(self, group: Group, client: int, report: Report) -> list[Row]:
        """Keep the set on trial or take it back, if the board's report decides that."""
        trial, candidate = group.trial, group.candidate
        if trial is None or candidate is None:
            return []
        verdict = trial.report(client, report.version, report.uncertainty)
        if verdict is None:
            return []
        group.trial, group.candidate = None, None
        told = {"group": group.number, "version": candidate.version, "changes": trial.changes}
        if verdict == "good":
            group.good = candidate
            return [{"kind": "kept", **told}]
        group.learner.go_back(group.good.model)
        boards = sorted(trial.watched)
        return [{"kind": "rollback", **told, "to": group.good.version, "why": verdict, "boards": boards}]

    def _publish(self, group: Group) -> list[Row]:
        """Put what was learned on trial, or make it what boards are to have."""
        if group.candidate is not None:
            return []
        model = group.learner.model()
        if model is None:
            return []
        self._version += 1
        published = replace(group.good, version=self._version, model=model)
        row = {"kind": "set", "group": group.number, "version": self._version}
        if self._trials is None:
            group.good = published
            return [{**row, "canaries": []}]
        group.candidate = published
        group.trial = self._trial_of(group, self._version)
        return [{**row, "canaries": sorted(self._trials.canaries & set(group.clients))}]

    def _trial_of(self, group: Group, version: int) -> Trial | None:
        """Return a trial of ``version`` that begins now."""
        trials = self._trials
        if trials is None:
            return None
        canaries = trials.canaries & set(group.clients)
        before = {client: fmean(found) for client, found in group.sure.items() if found}
        return Trial(version, canaries or group.clients, before, windows=trials.windows, margin=trials.margin)
