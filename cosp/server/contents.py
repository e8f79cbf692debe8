"""What is in the frozen tensors of the model, as each client receives them: found once, for they never change."""

from __future__ import annotations

from collections.abc import Hashable

from cosp.submodel.shape import layout_of
from cosp.submodel.slicing import State, slice_of
from cosp.task.contents import content_of, content_unknown
from cosp.task.task import Task

KNOWN = 65_536
"""Contents that are remembered: a tensor each, but for word tables, of which there is one for each list of words."""


class Contents:
    """Remembers contents by tensor, by the words of a table and by number format."""

    def __init__(self) -> None:
        self._known: dict[Hashable, str] = {}

    def of(self, task: Task, model: State) -> dict[str, str]:
        """Return the content of each frozen tensor of ``task``; a dry run's ``model`` has none of them."""
        return {name: self._content(name, task, model) for name in task.frozen_spans}

    def _content(self, name: str, task: Task, model: State) -> str:
        entry = layout_of(task.shape)[name]
        key = (name, task.plan.words if "words" in entry.groups else None, task.compression.down)
        if key not in self._known:
            if len(self._known) >= KNOWN:
                self._known.clear()
            if name in model:
                self._known[key] = content_of(task.compression.received(slice_of(model[name], entry, task.plan)))
            else:
                self._known[key] = content_unknown(name, task.spans[name].shape)
        return self._known[key]
