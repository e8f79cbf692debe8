"""Models as they are read from another library's files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import huggingface as hf
import torch

from cosp.checkpoints import Checkpoint, Imported, import_state, open_checkpoint
from cosp.models.transformer import Transformer, initialise

CLASSES = tuple(f"class {i}" for i in range(hf.CLASSES))


def shape_of(
    checkpoint: Checkpoint,
    family: str,
    *,
    image: int = 8,
    length: int = hf.LENGTH,
    vocabulary: int = hf.WORDS,
    **changes: Any,
) -> Any:
    given: dict[str, Any] = {"classes": hf.CLASSES, "exits": (1, 2), "pooling": None, "variant": "plain", **changes}
    if family not in hf.IMAGES:
        return checkpoint.architecture.shape(sample_shape=(length,), vocabulary=vocabulary, **given)
    return checkpoint.architecture.shape(sample_shape=(1, image, image), **given)


def imported(folder: Path, family: str, **changes: Any) -> tuple[Imported, Transformer]:
    checkpoint = open_checkpoint(str(folder))
    shape = shape_of(checkpoint, family, **changes)
    found = import_state(checkpoint, shape, CLASSES[: shape.classes])
    model = Transformer(shape)
    initialise(model, torch.Generator().manual_seed(5))
    model.load_state_dict(found.state({name: p.detach() for name, p in model.named_parameters()}))
    return found, model.eval()


def timm_state(theirs: Any) -> dict[str, torch.Tensor]:
    """The weights of a Hugging Face ViT as timm calls and joins them."""
    state = dict(theirs.state_dict())
    part = "vit.embeddings."
    found = {
        "cls_token": state[f"{part}cls_token"],
        "pos_embed": state[f"{part}position_embeddings"],
        **{f"patch_embed.proj.{n}": state[f"{part}patch_embeddings.projection.{n}"] for n in ("weight", "bias")},
        **{f"norm.{n}": state[f"vit.layernorm.{n}"] for n in ("weight", "bias")},
        **{f"head.{n}": state[f"classifier.{n}"] for n in ("weight", "bias")},
    }
    names = {"norm1": "layernorm_before", "attn.proj": "attention.o_proj", "norm2": "layernorm_after"}
    names |= {"mlp.fc1": "mlp.fc1", "mlp.fc2": "mlp.fc2"}
    for b in range(2):
        for n in ("weight", "bias"):
            qkv = [state[f"vit.layers.{b}.attention.{q}_proj.{n}"] for q in "qkv"]
            found[f"blocks.{b}.attn.qkv.{n}"] = torch.cat(qkv)
            found |= {f"blocks.{b}.{ours}.{n}": state[f"vit.layers.{b}.{name}.{n}"] for ours, name in names.items()}
    return found
