"""What a task starts from, cut out of the model of its version."""

from __future__ import annotations

from cosp.submodel.layout import Layout
from cosp.submodel.slicing import State, extract
from cosp.task.task import Task


def cut(model: State, layout: Layout, task: Task) -> State:
    """Return the tensors that ``task`` starts from, as the client receives them; whole ones may be ``model``'s own."""
    return {name: task.compression.received(tensor) for name, tensor in extract(model, layout, task.plan).items()}
