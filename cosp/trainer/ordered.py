"""Ordered dropout: at every step a smaller submodel inside the client's own is trained too (FjORD, Horvath et al. 2021,
arXiv:2102.13451).

The smaller one is really cut out: its forward and backward pass cost what its shape says. Gradients flow through the
cut into the client's own weights.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Callable, Dict, Iterator, Sequence, Tuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call

from cosp.models.flat import FlatModel
from cosp.models.transformer import Transformer
from cosp.submodel.plan import BLOCK_GROUPS, BlockPlan, SubmodelPlan
from cosp.submodel.shape import TransformerShape, layout_of
from cosp.submodel.slicing import slice_of
from cosp.trainer.training import Judge, Passes, Targets

Logits = Callable[[Tensor], Sequence[Tensor]]


def ordered_passes(
    whole: Logits,
    narrower: Sequence[Logits],
    judge: Judge,
    *,
    distillation: float,
    rng: np.random.Generator,
) -> Passes:
    """Return what yields the losses of one step, each to be propagated back before the next is asked for.

    With ``distillation`` the client's own submodel is trained at every step and teaches the one that is drawn;
    without, the drawn one is trained alone. Drawing the client's own adds nothing to training it.
    """

    def passes(x: Tensor, to: Targets) -> Iterator[Tuple[Tensor, Tensor]]:
        drawn = int(rng.integers(len(narrower) + 1))
        own = drawn == len(narrower)
        teachers: Sequence[Tensor] = ()
        if own or distillation:
            logits = whole(x)
            yield judge(logits, to)
            teachers = [z.detach() for z in logits]
        if not own:
            logits = narrower[drawn](x)
            loss, deepest = judge(logits, to)
            if distillation:
                loss = (1 - distillation) * loss + distillation * _divergence(teachers, logits)
            yield loss, deepest

    return passes


def inside(model: FlatModel, shape: TransformerShape, plan: SubmodelPlan, inner: SubmodelPlan) -> Logits:
    """Return the forward pass of ``inner`` on the weights that ``model``, which holds ``plan``, has at that moment.

    ``ValueError`` if ``inner`` holds what ``plan`` does not.
    """
    within = relative(plan, inner)
    layout = {
        name: replace(entry, shape=entry.sliced_shape(plan.counts))
        for name, entry in layout_of(shape).items()
        if entry.held(inner.depth)
    }
    with torch.device("meta"):
        module = Transformer(shape, inner)
    device = model.weights.device
    buffers: Dict[str, Tensor] = {name: buffer.to(device) for name, buffer in module.named_buffers()}
    parameters = dict(model.module.named_parameters())

    def forward(x: Tensor) -> Sequence[Tensor]:
        cut = {name: slice_of(parameters[name], entry, within) for name, entry in layout.items()}
        logits: Sequence[Tensor] = functional_call(module, {**cut, **buffers}, (x,))
        return logits

    return forward


def relative(plan: SubmodelPlan, inner: SubmodelPlan) -> SubmodelPlan:
    """Return ``inner`` with units numbered as ``plan`` holds them; ``ValueError`` if it is not inside."""
    blocks = []
    for outer_block, inner_block in zip(plan.blocks, inner.blocks):
        places = {group: {unit: i for i, unit in enumerate(outer_block.of(group))} for group in BLOCK_GROUPS}
        try:
            found = {group: tuple(places[group][unit] for unit in inner_block.of(group)) for group in BLOCK_GROUPS}
        except KeyError as error:
            raise ValueError(f"a smaller submodel holds unit {error}, which the client's own does not") from None
        blocks.append(BlockPlan(**found))
    if inner.depth > plan.depth:
        raise ValueError(f"a smaller submodel has {inner.depth} blocks, the client's own {plan.depth}")
    return SubmodelPlan(tuple(blocks))


def _divergence(teachers: Sequence[Tensor], pupils: Sequence[Tensor]) -> Tensor:
    """Sum over the pupil's exits of KL(teacher || pupil), the mean over the batch."""
    terms = [
        F.kl_div(F.log_softmax(pupil, dim=-1), F.softmax(teacher, dim=-1), reduction="batchmean")
        for teacher, pupil in zip(teachers, pupils)
    ]
    return torch.stack(terms).sum()
