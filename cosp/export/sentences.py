"""A classifier of texts that reads the mean of all words, as a folder of sentence-transformers.

transformers has no class for it: its classifiers of texts read the first word. sentence-transformers has the three
steps: a bare model of words, their mean without padding, a linear layer, which here are the logits.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from cosp.checkpoints.families import Family
from cosp.checkpoints.own import WEIGHTS
from cosp.checkpoints.sentences import DENSE, LINEAR, PLAIN, POOLING, STEPS, steps
from cosp.models import TextShape
from cosp.submodel.slicing import State

BODIES = {"bert": "BertModel", "roberta": "RobertaModel", "distilbert": "DistilBertModel"}


def write(folder: Path, *, state: State, family: Family, shape: TextShape) -> str:
    """Write tensors and steps, and return what loads them; ``state`` has the names of a classifier."""
    head = f"{family.head}."
    layer = {f"{LINEAR}.{name.removeprefix(head)}": t for name, t in state.items() if name.startswith(head)}
    body = {name.removeprefix(family.prefix): t for name, t in state.items() if not name.startswith(head)}
    save_file(body, folder / WEIGHTS, {"format": "pt"})
    for name in (POOLING, DENSE):
        (folder / name).mkdir()
    save_file(layer, folder / DENSE / WEIGHTS, {"format": "pt"})
    written: dict[str, Any] = {
        STEPS: steps(),
        "sentence_bert_config.json": {"max_seq_length": shape.length, "do_lower_case": False},
        f"{POOLING}/config.json": {"word_embedding_dimension": shape.dim, "pooling_mode_mean_tokens": True},
        f"{DENSE}/config.json": {
            "in_features": shape.dim,
            "out_features": shape.classes,
            "bias": True,
            "activation_function": PLAIN,
        },
    }
    for name, value in written.items():
        (folder / name).write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    return (
        "Loads in sentence-transformers as `SentenceTransformer`, whose vectors are the logits; in transformers as "
        f"`{BODIES[family.name]}`, with the head beside it"
    )


@torch.no_grad()
def in_transformers(folder: Path, x: NDArray[Any], padding: int | None) -> torch.Tensor:
    """Return the logits as the card computes them with transformers alone."""
    import transformers

    words = torch.from_numpy(x).long()
    there = torch.ones_like(words) if padding is None else (words != padding).long()
    hidden = transformers.AutoModel.from_pretrained(folder).eval()(words, attention_mask=there).last_hidden_state
    counted = there[:, :, None].float()
    head = load_file(folder / DENSE / WEIGHTS)
    mean = (hidden * counted).sum(1) / counted.sum(1)
    return torch.nn.functional.linear(mean, head[f"{LINEAR}.weight"], head[f"{LINEAR}.bias"])


@torch.no_grad()
def in_sentence_transformers(folder: Path, x: NDArray[Any], padding: int | None) -> torch.Tensor:
    """Return the logits that sentence-transformers computes of word numbers."""
    import sentence_transformers

    words = torch.from_numpy(x).long()
    there = torch.ones_like(words) if padding is None else (words != padding).long()
    model = sentence_transformers.SentenceTransformer(str(folder), device="cpu").eval()
    found: torch.Tensor = model({"input_ids": words, "attention_mask": there})["sentence_embedding"]
    return found
