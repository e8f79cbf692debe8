"""Many submodels of the same sizes computed in one pass, a *lane* each.

``torch.func.vmap`` makes of the module that computes one submodel one that computes as many as there are lanes: a
product with a lane's own weights becomes one of a batch of products. Where a step is small it costs more to begin than
to do, and is begun once for all lanes. Bits are not those of a submodel alone, whose products are summed in another
order; they depend on how many lanes there are.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import vmap

from cosp.models.flat import Frame
from cosp.models.transformer import Transformer
from cosp.submodel.flat import length
from cosp.submodel.frozen import NOTHING, Frozen
from cosp.submodel.plan import SubmodelPlan
from cosp.submodel.shape import TransformerShape


class LaneFrame(Frame):
    """A module that computes with whatever tensors it is lent, those of many lanes too."""

    def __init__(self, shape: TransformerShape, plan: SubmodelPlan, frozen: Frozen = NOTHING) -> None:
        super().__init__(shape, plan, frozen)
        for block in self._blocks:
            block.attention.attend = attend
            block.add_rows = add_rows

    def lend(self, tensors: Dict[str, Tensor], rows: List[Optional[Tensor]]) -> Transformer:
        """Return the module, which computes with ``tensors`` and ``rows`` until it is lent others."""
        for name, tensor in tensors.items():
            self._put(name, tensor)  # type: ignore[arg-type]  # no Parameter: autograd knows it as it is
        for i, block in enumerate(self._blocks):
            block._buffers["attention_rows"], block._buffers["ffn_rows"] = rows[2 * i], rows[2 * i + 1]
        return self.module


class Lanes:
    """Submodels of ``plans``, which keep as many units each; ``weights`` and ``gradients`` are (lanes, entries).

    Work is done in the first ``active`` lanes. ``frame`` is one for such plans, if there is one already.
    """

    def __init__(
        self,
        shape: TransformerShape,
        plans: Sequence[SubmodelPlan],
        weights: Tensor,
        frame: Optional[LaneFrame] = None,
    ) -> None:
        self._frame = frame or LaneFrame(shape, plans[0])
        if weights.shape != (len(plans), length(self._frame.trained)):
            wanted = (len(plans), length(self._frame.trained))
            raise ValueError(f"weights must be {wanted}, got {tuple(weights.shape)}")
        self.weights, self.gradients = weights, torch.zeros_like(weights)
        self._rows = [
            _stacked([getattr(plan.blocks[b], name) for plan in plans], shape.dim, weights.device)
            for b in range(len(plans[0].blocks))
            for name in ("attention_rows", "ffn_rows")
        ]
        self.keep_first(len(plans))

    def keep_first(self, active: int) -> None:
        """Leave the lanes behind the first ``active`` as they are."""
        self.active = active
        spans, self._names = self._frame.trained, list(self._frame.trained)
        self._leaves = [
            self.weights[:active, span.start : span.stop].view(active, *span.shape).detach().requires_grad_()
            for span in spans.values()
        ]
        self._slopes = [
            self.gradients[:active, span.start : span.stop].view(active, *span.shape) for span in spans.values()
        ]

    def compute(self, work: Callable[..., Any], *given: Optional[Tensor]) -> Any:
        """Return what ``work(module, *given)`` returns of each active lane, stacked; of ``given``, each lane's part."""

        def of_a_lane(leaves: List[Tensor], rows: List[Optional[Tensor]], *parts: Optional[Tensor]) -> Any:
            return work(self._frame.lend(dict(zip(self._names, leaves)), rows), *parts)

        rows = [None if index is None else index[: self.active] for index in self._rows]
        dims = ([0] * len(self._leaves), [None if index is None else 0 for index in rows])
        try:
            return vmap(of_a_lane, in_dims=(*dims, *(None if part is None else 0 for part in given)))(
                self._leaves, rows, *given
            )
        finally:
            self._frame.clear()

    def backward(self, loss: Tensor) -> None:
        """Put the gradient of ``loss``, the sum over the lanes, into ``gradients``; what it does not use has none."""
        found = torch.autograd.grad(loss, self._leaves, allow_unused=True)
        with torch.no_grad():
            for slope, gradient in zip(self._slopes, found):
                if gradient is not None:
                    slope.copy_(gradient)


class _Attention(torch.autograd.Function):
    """How many lanes attend: as one batch of all their samples, since no weights play a part in it."""

    @staticmethod
    def forward(q: Tensor, k: Tensor, v: Tensor, mask: Optional[Tensor]) -> Tensor:
        raise NotImplementedError("lanes are computed under vmap")

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        raise NotImplementedError("lanes are computed under vmap")

    @staticmethod
    def vmap(info: Any, in_dims: Any, q: Tensor, k: Tensor, v: Tensor, mask: Optional[Tensor]) -> Tuple[Tensor, int]:
        lanes = info.batch_size
        queries, keys, values, masks = (_all_lanes(part, dim, lanes) for part, dim in zip((q, k, v, mask), in_dims))
        mixed = F.scaled_dot_product_attention(queries, keys, values, attn_mask=masks)
        return mixed.view(lanes, -1, *mixed.shape[1:]), 0


def _all_lanes(part: Optional[Tensor], dim: Optional[int], lanes: int) -> Any:
    """Return (lanes * batch, ...) of a tensor whose lanes lie along ``dim``, or that all lanes share."""
    if part is None:
        return None
    whole = part.expand(lanes, *part.shape) if dim is None else part.movedim(dim, 0)
    return whole.flatten(0, 1)


def attend(q: Tensor, k: Tensor, v: Tensor, attn_mask: Optional[Tensor] = None) -> Tensor:
    """Do what ``F.scaled_dot_product_attention`` does, in a lane: its kernel has no rule for vmap."""
    mixed: Tensor = _Attention.apply(q, k, v, attn_mask)  # type: ignore[no-untyped-call]
    return mixed


def add_rows(x: Tensor, branch: Tensor, rows: Optional[Tensor]) -> Tensor:
    """Do what ``cosp.models.block.add_rows`` does, in a lane that has rows of its own."""
    return x + branch if rows is None else x.scatter_add(-1, rows.expand(branch.shape), branch)


def _stacked(rows: Sequence[Sequence[int]], dim: int, device: torch.device) -> Optional[Tensor]:
    """Return (lanes, rows), None where each lane has all ``dim``."""
    return None if len(rows[0]) == dim else torch.tensor([list(each) for each in rows], device=device)
