"""What a task starts from, cut out of the model of its version."""

from __future__ import annotations

from typing import Dict, Iterator, Mapping

import torch
from torch import Tensor

from cosp.submodel.flat import flatten
from cosp.submodel.layout import Layout, ParameterLayout
from cosp.submodel.plan import SubmodelPlan
from cosp.submodel.shape import layout_of
from cosp.submodel.slicing import State, slice_of
from cosp.task.sent import received
from cosp.task.task import Task


class Cut(Mapping[str, Tensor]):
    """The tensors that ``task`` starts from, as the client receives them; whole ones may be ``model``'s own.

    Each is cut when it is asked for and not kept: what is on its way to a board takes no memory but the model's, which
    it keeps alive and nobody writes to.
    """

    def __init__(self, model: State, layout: Layout, task: Task) -> None:
        self._model, self._task = model, task
        self._held: Dict[str, ParameterLayout] = (
            {name: layout[name] for name in task.spans if name in layout} if layout else {}  # of a dry run
        )

    def __getitem__(self, name: str) -> Tensor:
        entry = self._held[name]
        return received(self._task, entry, slice_of(self._model[name], entry, self._task.plan))

    def __iter__(self) -> Iterator[str]:
        return iter(self._held)

    def __len__(self) -> int:
        return len(self._held)


def weights_of(task: Task, model: State) -> Tensor:
    """Return the weights that ``task`` starts from, cut out of ``model``, end to end; and of each beside it, behind."""
    layout = {name: entry for name, entry in layout_of(task.shape).items() if name in model}
    parts: Dict[SubmodelPlan, Tensor] = {}
    for one in task.each:
        if one.plan not in parts:
            parts[one.plan] = flatten(Cut(model, layout, one), one.spans)
    return torch.cat([parts[one.plan] for one in task.each]) if task.beside else parts[task.plan]
