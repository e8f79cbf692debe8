"""Frozen tensors that a trainer keeps between tasks, known by what is in them: they are sent to it once.

What it keeps is what the last task needed, one vector, on which models compute where it lies.
"""

from __future__ import annotations

from typing import Dict, Optional, Set, Tuple

import torch
from torch import Tensor

from cosp.submodel.flat import Spans, length, views
from cosp.task.contents import content_of
from cosp.task.sent import apart
from cosp.task.task import Task


class NotKept(Exception):
    """The server takes a tensor to be here that is not."""


class Kept:
    """Puts what a server sends together with what is here."""

    def __init__(self) -> None:
        self._vector = torch.empty(0)
        self._spans: Spans = {}
        self._contents: Dict[str, str] = {}
        """Of each tensor in the vector."""

    def complete(self, task: Task, sent: Tensor) -> Tuple[Tensor, Optional[Tensor]]:
        """Return the trained weights that ``task`` starts from, and the frozen ones as they are held; ``sent`` is what
        the task says.

        ``NotKept`` if one that was not sent is not here either.
        """
        frozen = task.frozen_spans
        if not frozen:
            return sent, None
        wanted = dict(task.kept)
        for name, content in wanted.items():
            if self._contents.get(name) != content:
                raise NotKept(f"{name}: is not kept here with the content {content}: it must be sent again")
        trained, new = apart(task, sent)
        if list(frozen) != list(self._spans) or new.numel() or new.dtype != self._vector.dtype:
            self._renew(frozen, {name for name in frozen if name not in wanted}, new)
            trained = trained.clone()  # what was sent is as large as all that is kept, and is let go
        return trained, self._vector

    def _renew(self, frozen: Spans, new: Set[str], sent: Tensor) -> None:
        vector = torch.empty(length(frozen), dtype=sent.dtype)
        start, before = 0, views(self._vector, self._spans) if self._spans else {}
        contents = {}
        for name, view in views(vector, frozen).items():
            if name in new:
                view.copy_(sent[start : start + view.numel()].view(view.shape))
                start += view.numel()
                contents[name] = content_of(view)
            else:
                view.copy_(before[name])
                contents[name] = self._contents[name]
        self._vector, self._spans, self._contents = vector, frozen, contents
