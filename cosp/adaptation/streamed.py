"""Samples as tokens of a board's own residual stream, which the server goes on from."""

from __future__ import annotations

from typing import List

import numpy as np
import torch

from cosp.adaptation.tokens import (
    TokenSettings,
    kept_tokens,
    leave_scores,
    means_without,
    merged_tokens,
    norm_scores,
    tokens_message,
)
from cosp.models.flat import FlatModel
from cosp.models.transformer import Transformer
from cosp.submodel.plan import SubmodelPlan
from cosp.submodel.shape import TransformerShape


def kept_of(settings: TokenSettings, shape: TransformerShape) -> int:
    """Return how many tokens of a sample travel."""
    return settings.kept(shape.tokens, shape.trunk.own_tokens)


@torch.no_grad()
def token_messages(
    settings: TokenSettings,
    shape: TransformerShape,
    plan: SubmodelPlan,
    weights: torch.Tensor,
    x: np.ndarray,
    rng: np.random.Generator,
) -> List[bytes]:
    """Return a message for each of the samples ``x``: the tokens behind block ``settings.after`` that are kept of a
    board which has the submodel of ``plan``.
    """
    model = FlatModel(shape, plan, torch.device("cpu"), trains=False)
    model.load(weights)
    stream = model.module.stream(torch.from_numpy(x), settings.after)
    keep, own = kept_of(settings, shape), shape.trunk.own_tokens
    if settings.how == "merge":
        columns = round(shape.input_tokens**0.5) if len(shape.sample_shape) == 3 else shape.input_tokens
        merged = [merged_tokens(sample, keep, own, columns) for sample in stream.numpy()]
        return [tokens_message(means, sizes, settings.after) for means, sizes in merged]
    rows = kept_tokens(_scores(settings, model.module, stream, rng), keep, own)
    ones = np.ones(keep, np.int64)
    return [tokens_message(sample[kept], ones, settings.after) for sample, kept in zip(stream.numpy(), rows)]


def _scores(settings: TokenSettings, module: Transformer, stream: torch.Tensor, rng: np.random.Generator) -> np.ndarray:
    if settings.how == "norm":
        return norm_scores(stream.numpy())
    if settings.how == "random":
        return rng.random(stream.shape[:2])
    behind = next(i for i, position in enumerate(module.exit_positions) if position >= settings.after)
    head = module.exits[behind]
    whole = head(stream.mean(1)).softmax(-1).numpy()
    without = head(torch.from_numpy(means_without(stream.numpy()))).softmax(-1).numpy()
    return leave_scores(whole, without)
