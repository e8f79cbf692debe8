"""ViT (Dosovitskiy et al. 2021, arXiv:2010.11929) and DeiT (Touvron et al. 2021, arXiv:2012.12877), as Hugging Face and
timm write them.

DeiT's token that distils stays a token of the model; its own head is left out, and so is the pooler of a bare ViT,
which its classifiers do not use.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from cosp.checkpoints.architecture import Architecture, Pictures, gelu_flavour, labels_of
from cosp.checkpoints.conversions import FUSED, GRID, KERNEL, OWN_TOKENS, STACKED
from cosp.checkpoints.families import Config, Entry, Family, attention, deepest, pairs
from cosp.errors import ConfigError
from cosp.models import TransformerShape
from cosp.submodel.shape import Trunk

TIMM_EPSILON = 1e-6
WIDE = 1024
"""Up to this width timm's heads are 64 wide; beyond it there are 16 of them."""


def _architecture(config: Config) -> Architecture:
    return Architecture(
        family=config["model_type"],
        dim=config["hidden_size"],
        blocks=config["num_hidden_layers"],
        heads=config["num_attention_heads"],
        hidden=config["intermediate_size"],
        trunk=Trunk(
            epsilon=config.get("layer_norm_eps", 1e-12),
            gelu=gelu_flavour(config.get("hidden_act", "gelu"), "config.json: hidden_act"),
        ),
        inputs=Pictures(
            image=config.get("image_size", 224),
            patch=config.get("patch_size", 16),
            channels=config.get("num_channels", 3),
        ),
        labels=labels_of(config),
    )


def _distilled(config: Config) -> Architecture:
    found = _architecture(config)
    return replace(found, trunk=replace(found.trunk, own_tokens=2))


def _entries(prefix: str, own_tokens: tuple[str, ...]) -> tuple[Entry, ...]:
    before = f"{prefix}embeddings"
    return (
        Entry(ours="class_token", theirs=tuple(f"{before}.{name}" for name in own_tokens), conversion=OWN_TOKENS),
        Entry(ours="positions", theirs=(f"{before}.position_embeddings",), conversion=GRID),
        Entry(ours="inputs.weight", theirs=(f"{before}.patch_embeddings.projection.weight",), conversion=KERNEL),
        Entry(ours="inputs.bias", theirs=(f"{before}.patch_embeddings.projection.bias",)),
    )


def _block(prefix: str, b: int) -> tuple[Entry, ...]:
    ours, theirs = f"blocks.{b}", f"{prefix}encoder.layer.{b}"
    products = tuple(f"{theirs}.attention.attention.{name}" for name in ("query", "key", "value"))
    return (
        *pairs(f"{ours}.norm1", f"{theirs}.layernorm_before"),
        *attention(f"{ours}.attention", products, STACKED),
        *pairs(f"{ours}.attention.out", f"{theirs}.attention.output.dense"),
        *pairs(f"{ours}.norm2", f"{theirs}.layernorm_after"),
        *pairs(f"{ours}.ffn.up", f"{theirs}.intermediate.dense"),
        *pairs(f"{ours}.ffn.down", f"{theirs}.output.dense"),
    )


def _huggingface(name: str, own_tokens: tuple[str, ...], head: tuple[str, ...]) -> Family:
    prefix = f"{name}."

    def entries(architecture: Architecture, shape: TransformerShape) -> tuple[Entry, ...]:
        blocks = (entry for b in range(shape.blocks) for entry in _block(prefix, b))
        last = deepest(shape)
        return (
            *_entries(prefix, own_tokens),
            *blocks,
            *pairs(f"{last}.norm", f"{prefix}layernorm"),
            *pairs(f"{last}.head", head[0], instead=head[1:], needed=False),
        )

    return Family(
        name=name,
        architecture=_distilled if len(own_tokens) > 1 else _architecture,
        entries=entries,
        prefix=prefix,
        trunk=("embeddings", "encoder", "layernorm", "pooler"),
        spare=("mask_token", "pooler.dense.weight", "pooler.dense.bias"),
    )


VIT = _huggingface("vit", ("cls_token",), ("classifier",))
DEIT = _huggingface("deit", ("cls_token", "distillation_token"), ("classifier", "cls_classifier"))


def _timm_entries(architecture: Architecture, shape: TransformerShape) -> tuple[Entry, ...]:
    own = ("cls_token", "dist_token")[: architecture.trunk.own_tokens]
    found: list[Entry] = [
        Entry(ours="class_token", theirs=own, conversion=OWN_TOKENS),
        Entry(ours="positions", theirs=("pos_embed",), conversion=GRID),
        Entry(ours="inputs.weight", theirs=("patch_embed.proj.weight",), conversion=KERNEL),
        Entry(ours="inputs.bias", theirs=("patch_embed.proj.bias",)),
    ]
    for b in (f"blocks.{b}" for b in range(shape.blocks)):
        found += [
            *pairs(f"{b}.norm1", f"{b}.norm1"),
            *attention(f"{b}.attention", (f"{b}.attn.qkv",), FUSED),
            *pairs(f"{b}.attention.out", f"{b}.attn.proj"),
            *pairs(f"{b}.norm2", f"{b}.norm2"),
            *pairs(f"{b}.ffn.up", f"{b}.mlp.fc1"),
            *pairs(f"{b}.ffn.down", f"{b}.mlp.fc2"),
        ]
    last = deepest(shape)
    return (*found, *pairs(f"{last}.norm", "norm"), *pairs(f"{last}.head", "head", needed=False))


def timm_config(shapes: Mapping[str, tuple[int, ...]]) -> Config:
    """Return what a timm state dict itself says of its model; ConfigError if it is none of a ViT."""
    try:
        dim, channels, patch, _ = shapes["patch_embed.proj.weight"]
        own = 1 + ("dist_token" in shapes)
        numbers = [int(name.split(".")[1]) for name in shapes if name.startswith("blocks.")]
        return {
            "model_type": "timm",
            "hidden_size": dim,
            "num_hidden_layers": 1 + max(numbers),
            "num_attention_heads": dim // 64 if dim <= WIDE else 16,
            "intermediate_size": shapes["blocks.0.mlp.fc1.weight"][0],
            "layer_norm_eps": TIMM_EPSILON,
            "image_size": patch * math.isqrt(shapes["pos_embed"][1] - own),
            "patch_size": patch,
            "num_channels": channels,
            "own_tokens": own,
        }
    except (KeyError, ValueError, IndexError) as error:
        raise ConfigError(
            f"is no state dict of a timm ViT ({error}); give the folder that has its config.json"
        ) from None


def _timm(config: Config) -> Architecture:
    found = _architecture(config)
    return replace(found, trunk=replace(found.trunk, own_tokens=config["own_tokens"]))


class _Timm(Family):
    """Of timm's files everything but heads belongs to the trunk, which has no prefix."""

    def leftover(self, name: str) -> bool:
        return name.split(".", 1)[0] not in self.spare


TIMM = _Timm(
    name="timm",
    architecture=_timm,
    entries=_timm_entries,
    prefix="",
    trunk=(),
    spare=("head", "head_dist", "pre_logits"),
)
