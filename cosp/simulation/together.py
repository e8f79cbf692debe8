"""Training tasks of one form as one pass of many clients: see :mod:`cosp.models.lanes`.

Which are trained together is a matter of the order in which tasks are sent and replies are due, which is that of
virtual time: each ``size`` of one form, one after another, are a group, and those that are fewer as the first of them
is due. So it depends neither on workers nor on what they have done by then; and a run that goes on gets the groups that
it had, those of their members included whose replies have long been read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from torch import Tensor

from cosp.run.pool import Pool, Source, TaskFailed, TaskKilled
from cosp.submodel.slicing import State
from cosp.task.cut import weights_of
from cosp.task.serial import task_from_json, task_to_json
from cosp.task.task import Beside, Task

OWN = ("client", "turn", "plan", "beside")
"""What tells tasks of one form apart."""
ALIKE = [each.name for each in fields(Task) if each.name not in OWN]

Found = tuple[dict[str, Any], Tensor]


@dataclass(eq=False)
class _Group:
    tasks: list[Task]
    source: State | None
    """The version's model, None until a run that goes on has sent one of the tasks again."""
    priority: float = float("inf")
    asked: set[int] = field(default_factory=set)
    """Places in ``tasks`` whose results somebody may ask for."""
    closed: bool = False
    job: Any = None
    found: Found | None = None
    alone: dict[int, Any] | None = None
    """Jobs by place, where workers died over all of them together."""


@dataclass(frozen=True)
class _Place:
    group: _Group
    place: int


class Together:
    """A ``Pool`` in front of another, which gets at most ``size`` training tasks as one; with 1, each by itself."""

    def __init__(self, pool: Pool, size: int) -> None:
        self._pool, self._size = pool, size
        self._open: dict[Any, _Group] = {}
        self._groups: list[_Group] = []
        """All in which somebody waits, in the order in which they began."""
        self._known: dict[tuple[int, int], _Place] = {}
        """By client and turn, where a run that goes on had its tasks."""

    def submit(
        self, task: Task, floats: int, fill: Callable[[Tensor], None], *, priority: float, source: Source = None
    ) -> Any:
        """Queue ``task``, by itself if it is not of those that can be trained together."""
        if self._size == 1 or task.kind != "train" or not isinstance(source, Mapping):
            return self._pool.submit(task, floats, fill, priority=priority, source=source)
        place = self._known.pop((task.client, task.turn), None) or self._join(task, source)
        group = place.group
        group.source, group.priority = source, min(priority, group.priority)
        group.asked.add(place.place)
        if len(group.tasks) == self._size:
            self._close(group)
        if group.closed and group.job is None and not any(known.group is group for known in self._known.values()):
            self._begin(group)
        return place

    def result(self, job: Any) -> Found:
        """Wait for a task and return its facts and vector; TaskFailed (TaskKilled: workers died) if none."""
        if not isinstance(job, _Place):
            return self._pool.result(job)
        group, place = job.group, job.place
        self._close(group)
        if group.job is None:
            self._begin(group)
        try:
            return self._found(group, place)
        finally:
            self._leave(job)

    def cancel(self, job: Any) -> None:
        """Forget a task whose result nobody will ask for."""
        if not isinstance(job, _Place):
            self._pool.cancel(job)
            return
        self._leave(job)
        if not job.group.asked and job.group.job is not None:
            self._pool.cancel(job.group.job)

    def state(self) -> list[dict[str, Any]]:
        """Return the groups in which somebody waits, as JSON values."""
        return [
            {
                "tasks": [task_to_json(task) for task in group.tasks],
                "asked": sorted(group.asked),
                "closed": group.closed,
            }
            for group in self._groups
        ]

    def restore(self, groups: Sequence[Mapping[str, Any]]) -> None:
        """Have the groups that a run had; those tasks follow for whose results somebody waits."""
        for known in groups:
            group = _Group([task_from_json(text) for text in known["tasks"]], None, closed=known["closed"])
            self._groups.append(group)
            for place in known["asked"]:
                task = group.tasks[place]
                self._known[task.client, task.turn] = _Place(group, place)
            if not group.closed:
                self._open[_form(group.tasks[0])] = group

    def _join(self, task: Task, source: State) -> _Place:
        """Return the task's place in the open group of its form, a new one if there is none."""
        form = _form(task)
        group = self._open.get(form)
        if group is None or group.source is not source:
            self._open[form] = group = _Group([], source)
            self._groups.append(group)
        group.tasks.append(task)
        return _Place(group, len(group.tasks) - 1)

    def _close(self, group: _Group) -> None:
        """Let nobody else in."""
        if not group.closed:
            group.closed = True
            self._open = {form: one for form, one in self._open.items() if one is not group}

    def _begin(self, group: _Group) -> None:
        """Hand the group to those who work, as one task."""
        first, *others = group.tasks
        beside = tuple(Beside(task.client, task.turn, task.plan) for task in others)
        group.job = self._submit(replace(first, beside=beside) if beside else first, group)

    def _submit(self, task: Task, group: _Group) -> Any:
        source = group.source
        assert source is not None

        def fill(vector: Tensor) -> None:
            vector.copy_(weights_of(task, source))

        floats = sum(one.parameters for one in task.each)
        return self._pool.submit(task, floats, fill, priority=group.priority, source=source)

    def _found(self, group: _Group, place: int) -> Found:
        if len(group.tasks) == 1:
            return self._pool.result(group.job)
        if group.found is None and group.alone is None:
            try:
                group.found = self._pool.result(group.job)
            except TaskKilled:
                group.alone = {asked: self._submit(group.tasks[asked], group) for asked in sorted(group.asked)}
        if group.alone is not None:
            return self._pool.result(group.alone[place])
        assert group.found is not None
        facts, vector = group.found
        own: dict[str, Any] = facts["each"][place]
        if "failed" in own:
            raise TaskFailed(own["failed"])
        return own, vector.view(len(group.tasks), -1)[place].clone()

    def _leave(self, job: _Place) -> None:
        """Nobody waits for that task any more; a group of which that is true of all is forgotten."""
        group = job.group
        group.asked.discard(job.place)
        if group.alone is not None:
            group.alone.pop(job.place, None)
        if not group.asked:
            self._close(group)
            self._groups = [one for one in self._groups if one is not group]


def _form(task: Task) -> Any:
    """Return what tasks have in common that can be trained together."""
    return task.plan.counts, *(getattr(task, name) for name in ALIKE)
