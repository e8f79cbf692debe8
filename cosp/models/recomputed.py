"""Blocks that keep nothing for the backward pass but what they read: they are computed once more when the gradient
comes to them (gradient checkpointing, Chen et al. 2016, arXiv:1604.06174).

As ``torch.utils.checkpoint`` without reentrance, which imports torch's compiler with its first call (seconds, and tens
of megabytes that a board has not) and of which torch 2.0's computes more again than the gradient needs.
"""

from __future__ import annotations

import weakref
from contextlib import suppress
from typing import Any, Callable, ContextManager, List, Optional

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

Under = Callable[[], ContextManager[Any]]
"""Makes the context in which a forward pass is computed, and again: autocast, or none."""


def recomputed(compute: Callable[..., Tensor], *given: Any, under: Under) -> Tensor:
    """Return ``compute(*given)``, of which autograd keeps the ``given`` alone; gradients are the same to the bit.

    ``compute`` must find the same again: it draws nothing, and its weights stay until the backward pass.
    """
    again = _Again(lambda: compute(*given), under)
    with saved_tensors_hooks(again.forget, again.recall):
        found = compute(*given)
    torch.clear_autocast_cache()  # else autocast holds a half copy of the weights until the forward pass ends
    return found


class _Place:
    """Where a tensor will be that the backward pass asks for; the graph alone holds it, so it goes when it was used."""

    __slots__ = ("__weakref__", "tensor")

    def __init__(self) -> None:
        self.tensor: Optional[Tensor] = None


class _Enough(Exception):
    """All that the backward pass asks for is there."""


class _Again:
    """Forgets what one computation saves, and computes it again when the first of it is asked for."""

    def __init__(self, compute: Callable[[], Tensor], under: Under) -> None:
        self._compute: Optional[Callable[[], Tensor]] = compute
        self._under = under
        self._places: List[weakref.ReferenceType[_Place]] = []

    def forget(self, tensor: Tensor) -> _Place:
        place = _Place()
        self._places.append(weakref.ref(place))
        return place

    def recall(self, place: _Place) -> Tensor:
        if place.tensor is None:
            self._fill()
        if place.tensor is None:
            raise RuntimeError("a block saved less when it was computed again than the first time")
        return place.tensor

    def _fill(self) -> None:
        compute, self._compute = self._compute, None  # what was given is held by what is saved of it, if at all
        if compute is None:
            return
        left = len(self._places)

        def keep(tensor: Tensor) -> None:
            nonlocal left
            place = self._places[-left]()
            if place is not None:  # else its part of the graph is gone already
                place.tensor = tensor.detach()
            left -= 1
            if not left:
                raise _Enough

        with suppress(_Enough), torch.enable_grad(), self._under(), saved_tensors_hooks(keep, _never):
            compute()


def _never(packed: Any) -> Tensor:
    raise RuntimeError("no gradient passes what was computed again")
