"""What is in the frozen tensors of the model, as each client receives them: found once, for they never change."""

from __future__ import annotations

from collections.abc import Hashable

from cosp.submodel.shape import layout_of
from cosp.submodel.slicing import State, kept_units, slice_of
from cosp.task.contents import content_of, content_unknown
from cosp.task.sent import received
from cosp.task.task import Task

KNOWN = 65_536
"""Contents that are remembered: one for each tensor and each choice of units or words that somebody holds of it."""


class Contents:
    """Remembers contents by tensor, by the units or words that are held of it and by number format; not of the tensors
    that are ``changing`` from version to version.
    """

    def __init__(self, changing: frozenset[str] = frozenset()) -> None:
        self._changing = changing
        self._known: dict[Hashable, str] = {}

    def of(self, task: Task, model: State) -> dict[str, str]:
        """Return the content of each frozen tensor of ``task`` that versions do not change; a dry run's ``model`` has
        none of them.
        """
        return {name: self._content(name, task, model) for name in task.frozen_spans if name not in self._changing}

    def _content(self, name: str, task: Task, model: State) -> str:
        entry = layout_of(task.shape)[name]
        units = tuple(kept_units(entry, axis, task.plan) for axis in entry.axes if axis is not None)
        key = (name, units, task.compression.down)
        if key not in self._known:
            if len(self._known) >= KNOWN:
                self._known.clear()
            if name in model:
                self._known[key] = content_of(received(task, entry, slice_of(model[name], entry, task.plan)))
            else:
                self._known[key] = content_unknown(f"{name} {units}", task.spans[name].shape)
        return self._known[key]
