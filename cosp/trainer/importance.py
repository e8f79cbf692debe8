"""How much a client's own data needs each unit, measured on the depth-pruned but full-width model.

Scores come from gates: a factor g on every unit, 1 for the model as it is. dL/dg at g = 1 equals sum w * dL/dw over the
weights that the unit owns, so one backward pass to the gates gives the Taylor score (Molchanov et al. 2019,
arXiv:1906.10771) without any weight gradient. Learned gates train p = sigmoid(s) instead (Co-S2P section 3).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Iterable, List, Optional, Sequence, Tuple, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cosp.models.block import Block, BlockGates
from cosp.models.halves import whole
from cosp.models.transformer import Transformer
from cosp.submodel.plan import GROUPS, SubmodelPlan, mask
from cosp.submodel.selection import Scores
from cosp.submodel.shape import TransformerShape, layout_of
from cosp.trainer.optimizer import Adam

Batches = Iterable[Tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class GateSettings:
    """How gates are learned, at their own learning rate (ours; the paper's 2.5e-4 leaves p a coin flip)."""

    keep: float
    learning_rate: float = 0.05
    epochs: int = 5
    penalty: float = 1.0


def taylor_scores(model: Transformer, batches: Batches, micro_batch: Optional[int] = None) -> Scores:
    """Return |dL/dg| of every unit summed over ``batches``, with L the cross-entropy of the deepest exit."""
    freeze(model)
    gates = open_gates(model.shape, len(model.blocks), model.positions.device)
    flat = [gate.requires_grad_() for gate in _flat(gates)]
    total = [torch.zeros_like(gate) for gate in flat]
    for x, y in batches:
        for sums, gradient in zip(total, gate_gradients(model, x, y, gates, micro_batch)):
            sums += gradient.abs()
    return _as_scores(total, len(gates))


def learned_scores(
    model: Transformer,
    batches: Sequence[Tuple[Tensor, Tensor]],
    settings: GateSettings,
    generator: torch.Generator,
    micro_batch: Optional[int] = None,
) -> Scores:
    """Return gate logits s after training p = sigmoid(s) on Bernoulli gates with a straight-through gradient.

    Loss: cross-entropy of the gated deepest exit + penalty * |kept cost share - keep ratio|, the cost of a unit being
    the weights it owns. Weights stay frozen.
    """
    freeze(model)
    device = model.positions.device
    gates = open_gates(model.shape, len(model.blocks), device)
    logits = [torch.zeros_like(gate, requires_grad=True) for gate in _flat(gates)]
    costs = _unit_costs(model.shape) * len(model.blocks)
    whole = sum(cost * gate.numel() for cost, gate in zip(costs, logits))
    optimizer = Adam(logits, lr=settings.learning_rate)
    for _ in range(settings.epochs):
        for x, y in batches:
            p = [torch.sigmoid(s) for s in logits]
            g = [_draw(q.detach(), generator) + q - q.detach() for q in p]
            share = torch.stack([cost * gate.sum() for cost, gate in zip(costs, g)]).sum() / whole
            gradients = gate_gradients(model, x, y, _per_block(g), micro_batch)
            penalty = settings.penalty * (share - settings.keep).abs()
            optimizer.zero_grad()
            torch.autograd.backward([penalty, *g], [None, *gradients])
            optimizer.step()
    return _as_scores([s.detach() for s in logits], len(model.blocks))


def gate_gradients(
    model: Transformer, x: Tensor, y: Tensor, gates: Sequence[BlockGates], micro_batch: Optional[int] = None
) -> List[Tensor]:
    """Return dL/dg of every gate, L the mean cross-entropy of the deepest exit, in the order of the blocks and GROUPS.

    Reads ``micro_batch`` samples at a time (None: all at once). A mean is the weighted sum of its parts' means, so that
    changes how sums are rounded and nothing else.
    """
    flat, device, size = _flat(gates), model.positions.device, micro_batch or len(y)
    total: List[Tensor] = []
    for start in range(0, len(y), size):
        part, labels = x[start : start + size].to(device), y[start : start + size].to(device)
        loss = F.cross_entropy(model(part, gates)[-1], labels) * (len(labels) / len(y))
        found = torch.autograd.grad(loss, flat)
        total = [sums + gradient for sums, gradient in zip(total, found)] if total else list(found)
    return total


def magnitude_scores(model: Transformer) -> Scores:
    """Return the Euclidean norm of the weights that write each unit; no data is read."""
    scores = []
    for block in (cast(Block, module) for module in model.blocks):
        heads = whole(block.attention.qkv_weight.detach()).view(3, model.shape.heads, -1)
        found = {
            "heads": heads.pow(2).sum((0, 2)).sqrt(),
            "attention_rows": whole(block.attention.out.weight.detach()).norm(dim=1),
            "hidden": whole(block.ffn.up.weight.detach()).norm(dim=1),
            "ffn_rows": whole(block.ffn.down.weight.detach()).norm(dim=1),
        }
        scores.append({group: value.cpu().numpy().astype(np.float64) for group, value in found.items()})
    return tuple(scores)


def squared_gradient_scores(model: Transformer, batches: Batches, micro_batch: Optional[int] = None) -> Scores:
    """Return the sum of (dL/dw)^2 over the weights that each unit owns, summed over ``batches`` (PruneFL).

    L is the mean cross-entropy of a batch at the deepest exit. Unlike the other scores it takes the gradient of all
    weights: a board holds as much for it as for training, but for the optimizer's state.
    """
    named = {name: p.requires_grad_() for name, p in model.named_parameters() if name.startswith("blocks.")}
    totals = [{group: np.zeros(model.shape.sizes.of(group)) for group in GROUPS} for _ in model.blocks]
    layout = layout_of(model.shape)
    for x, y in batches:
        for name, gradient in zip(named, weight_gradients(model, x, y, list(named.values()), micro_batch)):
            squares, block = gradient.double().square().cpu().numpy(), layout[name].block
            for dimension, axis in enumerate(layout[name].axes):
                if axis is not None and axis.group in GROUPS and block is not None:
                    others = tuple(d for d in range(squares.ndim) if d != dimension)
                    totals[block][axis.group] += squares.sum(others).reshape(-1, axis.entries).sum(1)
    return tuple(totals)


def weight_gradients(
    model: Transformer, x: Tensor, y: Tensor, weights: Sequence[Tensor], micro_batch: Optional[int] = None
) -> List[Tensor]:
    """Return dL/dw of ``weights``, reading ``micro_batch`` samples at a time; see :func:`gate_gradients`."""
    device, size = model.positions.device, micro_batch or len(y)
    total: List[Tensor] = []
    for start in range(0, len(y), size):
        part, labels = x[start : start + size].to(device), y[start : start + size].to(device)
        loss = F.cross_entropy(model(part)[-1], labels) * (len(labels) / len(y))
        found = torch.autograd.grad(loss, weights)
        total = [sums + gradient for sums, gradient in zip(total, found)] if total else list(found)
    return total


def open_gates(shape: TransformerShape, depth: int, device: Optional[torch.device] = None) -> List[BlockGates]:
    """Return gates of one for every unit of the first ``depth`` blocks."""
    return [{group: torch.ones(shape.sizes.of(group), device=device) for group in GROUPS} for _ in range(depth)]


def plan_gates(shape: TransformerShape, plan: SubmodelPlan) -> List[BlockGates]:
    """Return 0/1 gates with which the full-width model of ``plan.depth`` blocks computes what the submodel does."""
    return [
        {g: torch.from_numpy(mask(block.of(g), shape.sizes.of(g))).float() for g in GROUPS} for block in plan.blocks
    ]


def freeze(model: Transformer) -> None:
    """Ask for no weight gradients: scoring keeps activations, but neither gradients nor optimizer state."""
    model.requires_grad_(False)


def _draw(probability: Tensor, generator: torch.Generator) -> Tensor:
    """Return Bernoulli gates, drawn on the CPU, where the generator lives, whatever the model's device."""
    return torch.bernoulli(probability.cpu(), generator=generator).to(probability.device)


def _unit_costs(shape: TransformerShape) -> List[int]:
    """Weights owned by one unit of each group, in the order of ``GROUPS``."""
    owned: Dict[str, int] = {
        "heads": 4 * shape.head_dim * shape.dim,
        "attention_rows": shape.dim,
        "hidden": 2 * shape.dim,
        "ffn_rows": shape.hidden,
    }
    return [owned[group] for group in GROUPS]


def _flat(gates: Sequence[BlockGates]) -> List[Tensor]:
    return [block[group] for block in gates for group in GROUPS]


def _per_block(flat: Sequence[Tensor]) -> List[BlockGates]:
    n = len(GROUPS)
    return [dict(zip(GROUPS, flat[i : i + n])) for i in range(0, len(flat), n)]


def _as_scores(flat: Sequence[Tensor], depth: int) -> Scores:
    values = [tensor.cpu().numpy().astype(np.float64) for tensor in flat]
    n = len(GROUPS)
    return tuple(dict(zip(GROUPS, values[b * n : (b + 1) * n])) for b in range(depth))
