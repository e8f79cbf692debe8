"""A folder that ``transformers`` loads: its configuration, its names, what makes samples beside them.

Written without that library, by the tables of names that importing reads, from right to left. A narrow submodel is
widened with zeros: a head or unit of zeros adds nothing. Texts read by the mean go to ``sentences.py``.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from cosp.checkpoints.architecture import Architecture, Pictures, Words
from cosp.checkpoints.families import Family
from cosp.checkpoints.own import TOKENIZER, WEIGHTS, Likeness
from cosp.checkpoints.text import BERT, DISTILBERT, ROBERTA
from cosp.checkpoints.vision import DEIT, VIT
from cosp.errors import UserError
from cosp.export import sentences
from cosp.export.chosen import Chosen
from cosp.models import TextShape, TransformerShape, ViTShape
from cosp.submodel.plan import full_plan
from cosp.submodel.shape import layout_of
from cosp.submodel.slicing import State, scatter

CLASSIFIERS = {
    "vit": "ViTForImageClassification",
    "deit": "DeiTForImageClassification",
    "bert": "BertForSequenceClassification",
    "roberta": "RobertaForSequenceClassification",
    "distilbert": "DistilBertForSequenceClassification",
}
GELUS = {"exact": "gelu", "tanh": "gelu_new"}
INSTEAD = "take --to onnx or --to torch, which say all that cosp computes"
BESIDE = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt", "vocab.json", "merges.txt")
"""What a pretrained model's folder holds of its tokenizer."""
SPECIAL = {
    "pad_token": ("[PAD]", "<pad>"),
    "unk_token": ("[UNK]", "<unk>"),
    "cls_token": ("[CLS]", "<s>"),
    "sep_token": ("[SEP]", "</s>"),
    "mask_token": ("[MASK]", "<mask>"),
}


def write(chosen: Chosen, folder: Path, *, tokenizer: Path | None) -> str:
    """Write the folder and return what loads it; UserError if no family computes what the model does.

    ``tokenizer``: the folder that has that of the run.
    """
    family, architecture = family_of(chosen)
    state, shape = their_state(chosen, family, architecture), chosen.facts.shape
    _write_json(folder / "config.json", config_of(chosen, family))
    if chosen.facts.reading.kind == "images":
        _write_json(folder / "preprocessor_config.json", _processor(chosen))
    elif tokenizer is not None:
        _write_tokenizer(tokenizer, folder, shape)
    if isinstance(shape, TextShape) and shape.pooling == "mean":
        return sentences.write(folder, state=state, family=family, shape=shape)
    save_file(state, folder / WEIGHTS, {"format": "pt"})
    return f"Loads in transformers as `{CLASSIFIERS[family.name]}`"


def family_of(chosen: Chosen) -> tuple[Family, Architecture]:
    """Return the family that computes what the model does; UserError in one line says what none does."""
    shape, likeness = chosen.facts.shape, chosen.facts.likeness
    if shape.variant != "plain":
        raise UserError(f"--to hf: no family of transformers has the {shape.variant} blocks of this method; {INSTEAD}")
    if isinstance(shape, ViTShape):
        return _image_family(shape)
    if isinstance(shape, TextShape):
        return _text_family(shape, likeness)
    raise UserError(f"--to hf: no family of transformers reads series as cosp does; {INSTEAD}")


def their_state(chosen: Chosen, family: Family, architecture: Architecture) -> State:
    """Return the tensors as the family calls and shapes them."""
    shape = chosen.facts.shape
    state = widened(chosen.state, shape, chosen)
    found: State = {}
    for entry in family.entries(architecture, shape):
        theirs = entry.conversion.outward(state[entry.ours], shape)
        found |= {name: t.clone().contiguous() for name, t in zip(entry.theirs, theirs, strict=True)}
    return found


def widened(state: State, shape: TransformerShape, chosen: Chosen) -> State:
    """Return the whole model, of which units that the plan leaves out are zeros."""
    layout = layout_of(shape)
    zeros = {name: torch.zeros(entry.shape) for name, entry in layout.items()}
    return scatter(state, layout, chosen.facts.plan, zeros)


def whole(chosen: Chosen) -> Chosen:
    """Return the same model with its plan's missing units as zeros: what the folder holds."""
    facts, shape = chosen.facts, chosen.facts.shape
    plan = full_plan(shape.sizes, shape.blocks)
    return replace(chosen, facts=replace(facts, plan=plan), state=widened(chosen.state, shape, chosen))


def _image_family(shape: ViTShape) -> tuple[Family, Architecture]:
    trunk = shape.trunk
    if shape.pooling != "class":
        raise UserError(
            "--to hf: transformers' ViT reads its class token, this model the mean of all (model.pooling: mean); "
            f"{INSTEAD}, or train with model.pooling: class"
        )
    if trunk.norm != "pre" or trunk.embedding_norm or trunk.pooler != "none" or trunk.own_tokens not in (1, 2):
        raise UserError(f"--to hf: no ViT of transformers has blocks like this model's; {INSTEAD}")
    inputs = Pictures(image=shape.image, patch=shape.patch, channels=shape.channels)
    family = VIT if trunk.own_tokens == 1 else DEIT
    return family, _architecture(family, shape, inputs)


def _text_family(shape: TextShape, likeness: Likeness | None) -> tuple[Family, Architecture]:
    trunk = shape.trunk
    if trunk.norm != "post" or trunk.own_tokens or not trunk.embedding_norm:
        raise UserError(
            "--to hf: this text model normalises before each branch and has a class token of its own, as no BERT of "
            f"transformers does; {INSTEAD}"
        )
    if shape.pooling == "class" and trunk.pooler == "none":
        raise UserError(
            "--to hf: transformers' classifiers of texts read the first word through a pooler, which this model has "
            f"not; {INSTEAD}"
        )
    known = {"bert": BERT, "roberta": ROBERTA, "distilbert": DISTILBERT}
    usual = DISTILBERT if trunk.pooler == "relu" else BERT
    family = known.get(likeness.family, usual) if likeness else usual
    inputs = Words(
        vocabulary=shape.vocabulary,
        positions=shape.length,
        padding=shape.padding,
        first=likeness.first if likeness else 0,
        segments=likeness.segments if likeness else (2 if family is BERT else 0),
    )
    return family, _architecture(family, shape, inputs)


def _architecture(family: Family, shape: TransformerShape, inputs: Pictures | Words) -> Architecture:
    return Architecture(
        family=family.name,
        dim=shape.dim,
        blocks=shape.blocks,
        heads=shape.heads,
        hidden=shape.hidden,
        trunk=shape.trunk,
        inputs=inputs,
    )


def config_of(chosen: Chosen, family: Family) -> dict[str, Any]:
    """Return what ``config.json`` says."""
    facts, shape = chosen.facts, chosen.facts.shape
    averaged = isinstance(shape, TextShape) and shape.pooling == "mean"
    common = {
        "architectures": [(sentences.BODIES if averaged else CLASSIFIERS)[family.name]],
        "model_type": family.name,
        "id2label": {str(i): name for i, name in enumerate(facts.classes)},
        "label2id": {name: i for i, name in enumerate(facts.classes)},
        "problem_type": "single_label_classification",
        "dtype": "float32",
    }
    act = GELUS[shape.trunk.gelu]
    if family is DISTILBERT:
        sizes = {"dim": shape.dim, "n_layers": shape.blocks, "n_heads": shape.heads, "hidden_dim": shape.hidden}
        return {**common, **sizes, "activation": act, **_words(shape, facts.likeness)}
    sizes = {
        "hidden_size": shape.dim,
        "num_hidden_layers": shape.blocks,
        "num_attention_heads": shape.heads,
        "intermediate_size": shape.hidden,
    }
    found = {**common, **sizes, "hidden_act": act, "layer_norm_eps": shape.trunk.epsilon}
    if isinstance(shape, ViTShape):
        pictures = {"image_size": shape.image, "patch_size": shape.patch, "num_channels": shape.channels}
        return {**found, **pictures, "qkv_bias": True}
    segments = facts.likeness.segments if facts.likeness else 2
    return {**found, **_words(shape, facts.likeness), "type_vocab_size": max(1, segments)}


def _words(shape: TransformerShape, likeness: Likeness | None) -> Mapping[str, Any]:
    assert isinstance(shape, TextShape)
    first = likeness.first if likeness else 0
    padding = first - 1 if first else shape.padding
    return {
        "vocab_size": shape.vocabulary,
        "max_position_embeddings": first + shape.length,
        "pad_token_id": padding,
    }


def _processor(chosen: Chosen) -> dict[str, Any]:
    """Return what prepares images: in the training data's units, so nothing is rescaled but what those were."""
    reading, shape = chosen.facts.reading, chosen.facts.shape
    assert isinstance(shape, ViTShape)
    white = reading.white or 255.0
    return {
        "image_processor_type": "ViTImageProcessor",
        "do_resize": True,
        "size": {"height": shape.image, "width": shape.image},
        "resample": 2,
        "do_rescale": white != 255.0,
        "rescale_factor": white / 255.0,
        "do_normalize": True,
        "image_mean": list(reading.mean),
        "image_std": list(reading.std),
    }


def _write_tokenizer(source: Path, folder: Path, shape: TransformerShape) -> None:
    """Copy a tokenizer; a ``tokenizer.json`` alone gets the few settings that name its special words."""
    for name in BESIDE:
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)
    if not (folder / TOKENIZER).is_file() or (folder / "tokenizer_config.json").is_file():
        return
    made = json.loads((folder / TOKENIZER).read_text(encoding="utf-8"))
    words = {token["content"] for token in made.get("added_tokens", ())}
    special = {key: next((name for name in names if name in words), None) for key, names in SPECIAL.items()}
    settings = {key: name for key, name in special.items() if name is not None}
    limits = {"model_max_length": shape.sample_shape[0], "tokenizer_class": "PreTrainedTokenizerFast"}
    reads = {"model_input_names": ["input_ids", "attention_mask"]}  # segments say nothing, and a DistilBERT takes none
    _write_json(folder / "tokenizer_config.json", {**settings, **limits, **reads})


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
