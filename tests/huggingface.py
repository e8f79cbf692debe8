"""Hugging Face models of random weights, small, as their own library makes and saves them; tests skip without it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

CLASSES = 3
WORDS, LENGTH, PADDING = 40, 7, {"bert": 0, "roberta": 1, "distilbert": 0}
IMAGES = ("vit", "deit")
TEXTS = tuple(PADDING)
FAMILIES = (*IMAGES, *TEXTS)

SIZES: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "num_labels": CLASSES,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
PICTURES: dict[str, Any] = {**SIZES, "image_size": 8, "patch_size": 4, "num_channels": 1}
SENTENCES: dict[str, Any] = {**SIZES, "vocab_size": WORDS, "max_position_embeddings": 16}
DISTILLED: dict[str, Any] = {
    "dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 24, "num_labels": CLASSES, "vocab_size": WORDS,
    "max_position_embeddings": 16, "dropout": 0.0, "attention_dropout": 0.0, "seq_classif_dropout": 0.0,
}  # fmt: skip


def classifier(family: str, **changes: Any) -> Any:
    """A classifier of random weights, all of them: a fresh one's biases and norms would hide what is mixed up."""
    transformers = pytest.importorskip("transformers", reason="needs the package transformers, of the extra dev")
    made = {
        "vit": (transformers.ViTForImageClassification, transformers.ViTConfig, PICTURES),
        "deit": (transformers.DeiTForImageClassification, transformers.DeiTConfig, PICTURES),
        "bert": (transformers.BertForSequenceClassification, transformers.BertConfig, SENTENCES),
        "roberta": (
            transformers.RobertaForSequenceClassification,
            transformers.RobertaConfig,
            {**SENTENCES, "type_vocab_size": 1},
        ),
        "distilbert": (transformers.DistilBertForSequenceClassification, transformers.DistilBertConfig, DISTILLED),
    }
    kind, config, sizes = made[family]
    return randomised(kind(config(**{**sizes, **changes})))


def randomised(model: Any, seed: int = 0) -> Any:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / 3)
    return model.eval()


def saved(model: Any, folder: Path) -> Path:
    model.save_pretrained(folder)
    return folder


def samples(family: str, count: int = 5, image: int = 8) -> torch.Tensor:
    """Images, or texts of which all but the first end in padding."""
    generator = torch.Generator().manual_seed(1)
    if family in IMAGES:
        return torch.randn(count, 1, image, image, generator=generator)
    texts = torch.randint(3, WORDS, (count, LENGTH), generator=generator, dtype=torch.int32)
    for i in range(count):
        texts[i, LENGTH - i % LENGTH :] = PADDING[family]
    return texts


def inputs(family: str, x: torch.Tensor) -> dict[str, Any]:
    """The same samples as transformers takes them."""
    if family in IMAGES:
        return {"pixel_values": x}
    return {"input_ids": x.long(), "attention_mask": (x != PADDING[family]).long()}
