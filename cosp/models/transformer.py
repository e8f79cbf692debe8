"""A transformer with exit heads whose blocks can be physically narrow.

At full width and depth this is a textbook pre-norm encoder (Vaswani et al. 2017, arXiv:1706.03762; Dosovitskiy et al.
2021, arXiv:2010.11929): input tokens, class token, learned positions, blocks of attention and GELU feed-forward,
LayerNorm and a linear head on the class token, or on the mean of all tokens. It differs in two ways: a head may stand
after any block (an *exit*), and a block may hold only some of its units, in which case a branch with fewer rows is
added to the residual stream at its kept coordinates. ``shape.trunk`` says what pretrained families do otherwise.

What makes tokens of a sample stands in ``vit.py`` (patches of an image), ``text.py`` (words) and ``series.py`` (patches
along time).
"""

from __future__ import annotations

import math
from typing import Callable, Dict, Iterator, List, Optional, Sequence, Tuple, Type

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cosp.models.adaptive import AdaptiveBlock
from cosp.models.block import Adapter, Block, BlockGates
from cosp.models.halves import LayerNorm, whole
from cosp.models.quantised import QuantisedBlock
from cosp.models.recomputed import Under, recomputed
from cosp.submodel.plan import SubmodelPlan
from cosp.submodel.shape import TransformerShape

BLOCKS: Dict[str, Type[Block]] = {"plain": Block, "adaptive": AdaptiveBlock, "quantised": QuantisedBlock}


class Transformer(nn.Module):
    """The submodel of ``shape`` that ``plan`` names; without a plan the whole model."""

    class_token: Optional[nn.Parameter]

    def __init__(self, shape: TransformerShape, plan: Optional[SubmodelPlan] = None) -> None:
        super().__init__()
        plan = plan or shape.full_plan()
        self.shape = shape
        self.exit_positions = shape.exits_within(plan.depth)
        if not self.exit_positions:
            raise ValueError(f"a submodel needs an exit: depth {plan.depth} is before the first exit {shape.exits[0]}")
        own = shape.trunk.own_tokens
        self.register_parameter("class_token", nn.Parameter(torch.empty(1, own, shape.dim)) if own else None)
        self.positions = nn.Parameter(torch.empty(1, shape.tokens, shape.dim))
        self.inputs = shape.inputs()
        self.embedding_norm = _norm(shape, shape.trunk.embedding_norm)
        self.blocks = nn.ModuleList(BLOCKS[shape.variant](shape, block) for block in plan.blocks)
        self.exits = nn.ModuleList(Exit(shape) for _ in self.exit_positions)

    def forward(
        self, samples: Tensor, gates: Optional[Sequence[BlockGates]] = None, again: Optional[Under] = None
    ) -> List[Tensor]:
        """Return the logits ``(batch, classes)`` of every exit, shallow to deep, for samples (batch, *sample_shape).

        ``gates`` multiplies the units of each full-width block: scores are learned through it, and a model masked with
        0/1 gates computes what the extracted submodel computes. With ``again``, the context to do so in, blocks are
        computed once more in the backward pass and keep nothing until then.
        """
        return list(self.in_turn(samples, gates, again))

    def in_turn(
        self, samples: Tensor, gates: Optional[Sequence[BlockGates]] = None, again: Optional[Under] = None
    ) -> Iterator[Tensor]:
        """Yield the logits of one exit after another; nothing behind the last that is asked for is computed."""
        for exit_, read in self._read_in_turn(samples, gates, again):
            yield exit_(read)

    def features_in_turn(self, samples: Tensor) -> Iterator[Tensor]:
        """Yield what the head of one exit after another reads, (batch, dim)."""
        for exit_, read in self._read_in_turn(samples, None):
            yield exit_.features(read)

    def outputs_in_turn(self, samples: Tensor) -> Iterator[Tuple[Tensor, Tensor]]:
        """Yield of one exit after another what its head reads, (batch, dim), and its logits (batch, classes)."""
        for exit_, read in self._read_in_turn(samples, None):
            features = exit_.features(read)
            yield features, exit_.head(features)

    def stream(self, samples: Tensor, after: int) -> Tensor:
        """Return the residual stream (batch, tokens, dim) behind block ``after``, behind 0 as the first block reads it.

        It is as wide in every submodel, so another one, or the whole model, can go on with it: :meth:`resume`.
        """
        x, there = self.embed(samples), self.there(samples)
        attended = None if there is None else _additive(there, x.dtype)
        for block in self.blocks[:after]:
            x = block(x, None, attended)
        return x

    def resume(self, x: Tensor, after: int, sizes: Optional[Tensor] = None) -> Iterator[Tuple[Tensor, Tensor]]:
        """Yield what :meth:`outputs_in_turn` yields of the exits behind block ``after``, from the stream ``x`` there.

        ``x`` may hold some of the tokens, own ones first. A mean over them counts each by ``sizes`` (batch, tokens): so
        many were merged into it.
        """
        if self.shape.pooling == "class":
            read = self._reading(None, x.dtype)
        else:
            weights = torch.ones(x.shape[:2], dtype=x.dtype) if sizes is None else sizes.to(x.dtype)
            share = (weights / weights.sum(1, keepdim=True))[:, :, None]

            def read(stream: Tensor) -> Tensor:
                return (stream * share).sum(1)

        for i in range(after, len(self.blocks)):
            x = self.blocks[i](x)
            if i + 1 in self.exit_positions:
                exit_: Exit = self.exits[self.exit_positions.index(i + 1)]  # type: ignore[assignment]
                features = exit_.features(read(x))
                yield features, exit_.head(features)

    def _read_in_turn(
        self, samples: Tensor, gates: Optional[Sequence[BlockGates]], again: Optional[Under] = None
    ) -> Iterator[Tuple[Exit, Tensor]]:
        """Yield one exit after another and what it reads of the stream."""
        x = self.embed(samples)
        there = self.there(samples)
        attended = None if there is None else _additive(there, x.dtype)
        read = self._reading(there, x.dtype)
        passed = 0
        for i, block in enumerate(self.blocks):
            given = x, None if gates is None else gates[i], attended
            deepest = i + 1 == len(self.blocks)  # whose gradient is the first: it would forget in vain
            x = block(*given) if again is None or deepest else recomputed(block, *given, under=again)
            del given
            if i + 1 in self.exit_positions:
                yield self.exits[passed], read(x)  # type: ignore[misc]
                passed += 1

    def deepest(self, samples: Tensor) -> Tensor:
        """Return the logits of the last exit alone."""
        x, there = self.embed(samples), self.there(samples)
        attended = None if there is None else _additive(there, x.dtype)
        for block in self.blocks:
            x = block(x, None, attended)
        logits: Tensor = self.exits[-1](self._reading(there, x.dtype)(x))
        return logits

    def embed(self, samples: Tensor) -> Tensor:
        """Return the first residual stream (batch, tokens, dim): class token, then the input's tokens in order."""
        tokens = self.inputs(samples)
        if self.class_token is not None:
            tokens = torch.cat([whole(self.class_token).expand(tokens.shape[0], -1, -1), tokens], dim=1)
        embedded: Tensor = self.embedding_norm(tokens + self.positions)
        return embedded

    def there(self, samples: Tensor) -> Optional[Tensor]:
        """Return which tokens are no padding, a boolean (batch, tokens); None where the shape knows no padding.

        The first token always is: a text of padding alone would have nothing to attend to.
        """
        if self.shape.padding is None:
            return None
        words, own = samples != self.shape.padding, self.shape.trunk.own_tokens
        if own:
            return F.pad(words, (own, 0), value=True)
        words[:, 0] = True
        return words

    def _reading(self, there: Optional[Tensor], dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
        """Return what exits read of the stream: the first token, or the mean of those that are ``there``."""
        if self.shape.pooling == "class":
            return lambda x: x[:, 0]
        if there is None:
            return lambda x: x.mean(1)
        counted = there.to(dtype)[:, :, None]
        share = counted / counted.sum(1, keepdim=True)
        return lambda x: (x * share).sum(1)


class Exit(nn.Module):
    """LayerNorm and a linear classifier on what is read of the tokens: (batch, dim) to (batch, classes).

    No LayerNorm behind post-norm blocks; between the two the family's pooler, if it has one.
    """

    def __init__(self, shape: TransformerShape) -> None:
        super().__init__()
        self.norm = _norm(shape, shape.trunk.norm == "pre")
        self.squash = {"none": None, "tanh": torch.tanh, "relu": F.relu}[shape.trunk.pooler]
        self.pooler = nn.Linear(shape.dim, shape.dim) if self.squash else None
        self.head = nn.Linear(shape.dim, shape.classes)

    def forward(self, features: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(features))
        return logits

    def features(self, features: Tensor) -> Tensor:
        """Return what the head reads."""
        normed: Tensor = self.norm(features)
        return normed if self.pooler is None or self.squash is None else self.squash(self.pooler(normed))


def _norm(shape: TransformerShape, there: bool) -> nn.Module:
    return LayerNorm(shape.dim, eps=shape.trunk.epsilon) if there else nn.Identity()


def _additive(there: Tensor, dtype: torch.dtype) -> Tensor:
    """Return zero where a token is there and minus infinity where not, (batch, 1, 1, tokens)."""
    return torch.zeros_like(there, dtype=dtype).masked_fill_(~there, -math.inf)[:, None, None, :]


def initialise(model: Transformer, generator: torch.Generator) -> None:
    """Draw fresh weights in place.

    Normal with deviation 0.5 / sqrt(fan in), clipped at two deviations (0.02 at the width 768 of ViT-B); class token
    0.02; positions as the shape says; words 0.5, as strong as patches of normalised images; zero biases; unit
    LayerNorms. Adapters have draws of their own (``cosp.submodel.low_rank.drawn``), so that all others are the same
    with and without them.
    """
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, Adapter):
                continue
            for parameter in module.parameters(recurse=False):
                if isinstance(module, nn.LayerNorm):
                    parameter.fill_(1.0 if parameter is module.weight else 0.0)
                elif parameter is model.positions:
                    parameter.normal_(0.0, model.shape.position_deviation, generator=generator)
                elif isinstance(module, nn.Embedding):
                    parameter.normal_(0.0, 0.5, generator=generator)
                elif parameter is model.class_token:
                    parameter.normal_(0.0, 0.02, generator=generator)
                elif parameter.dim() == 1 or parameter is getattr(module, "qkv_bias", None):
                    parameter.zero_()
                else:
                    deviation = 0.5 * parameter.shape[-1] ** -0.5
                    parameter.normal_(0.0, deviation, generator=generator).clamp_(-2 * deviation, 2 * deviation)
