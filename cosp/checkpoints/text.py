"""BERT (Devlin et al. 2019, arXiv:1810.04805; so MiniLM, BGE, E5), RoBERTa (Liu et al. 2019, arXiv:1907.11692) and
DistilBERT (Sanh et al. 2019, arXiv:1910.01108), as Hugging Face writes them.

All words belong to segment 0, whose embedding is added to the positions; RoBERTa counts positions from behind its
padding's number. What stands between the first word and the classes is the family's pooler.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cosp.checkpoints.architecture import Architecture, Words, gelu_flavour, labels_of
from cosp.checkpoints.conversions import STACKED, word_positions
from cosp.checkpoints.families import Config, Entry, Family, attention, deepest, pairs
from cosp.errors import ConfigError
from cosp.models import TransformerShape
from cosp.submodel.shape import Trunk

Entries = Callable[[Architecture, TransformerShape], tuple[Entry, ...]]


def _trunk(config: Config, *, epsilon: float, act: str, pooler: str) -> Trunk:
    return Trunk(
        norm="post",
        epsilon=epsilon,
        gelu=gelu_flavour(config.get(act, "gelu"), f"config.json: {act}"),
        own_tokens=0,
        embedding_norm=True,
        pooler=pooler,
    )


def _bert(config: Config, *, first: int = 0) -> Architecture:
    kind = config.get("position_embedding_type", "absolute")
    if kind != "absolute":
        raise ConfigError(f"config.json: position_embedding_type: must be absolute, got {kind!r}")
    if config.get("is_decoder"):
        raise ConfigError("config.json: is_decoder: must be false: every word attends to all others here")
    return Architecture(
        family=config["model_type"],
        dim=config["hidden_size"],
        blocks=config["num_hidden_layers"],
        heads=config["num_attention_heads"],
        hidden=config["intermediate_size"],
        trunk=_trunk(config, epsilon=config.get("layer_norm_eps", 1e-12), act="hidden_act", pooler="tanh"),
        inputs=Words(
            vocabulary=config["vocab_size"],
            positions=config["max_position_embeddings"] - first,
            padding=config.get("pad_token_id", 0),
            first=first,
            segments=config.get("type_vocab_size", 2),
        ),
        labels=labels_of(config),
    )


def _roberta(config: Config) -> Architecture:
    padding = config.get("pad_token_id", 1)
    return _bert({**config, "pad_token_id": padding}, first=padding + 1)


def _distilbert(config: Config) -> Architecture:
    return Architecture(
        family=config["model_type"],
        dim=config["dim"],
        blocks=config["n_layers"],
        heads=config["n_heads"],
        hidden=config["hidden_dim"],
        trunk=_trunk(config, epsilon=1e-12, act="activation", pooler="relu"),
        inputs=Words(
            vocabulary=config["vocab_size"],
            positions=config["max_position_embeddings"],
            padding=config.get("pad_token_id", 0),
        ),
        labels=labels_of(config),
    )


def _inputs(prefix: str, words: Words) -> tuple[Entry, ...]:
    tables = (f"{prefix}embeddings.position_embeddings.weight", f"{prefix}embeddings.token_type_embeddings.weight")
    conversion = word_positions(words.first, words.segments)
    return (
        Entry(ours="inputs.weight", theirs=(f"{prefix}embeddings.word_embeddings.weight",)),
        Entry(ours="positions", theirs=tables if words.segments else tables[:1], conversion=conversion),
        *pairs("embedding_norm", f"{prefix}embeddings.LayerNorm"),
    )


def _bert_block(prefix: str, b: int) -> tuple[Entry, ...]:
    ours, theirs = f"blocks.{b}", f"{prefix}encoder.layer.{b}"
    products = tuple(f"{theirs}.attention.self.{name}" for name in ("query", "key", "value"))
    return (
        *attention(f"{ours}.attention", products, STACKED),
        *pairs(f"{ours}.attention.out", f"{theirs}.attention.output.dense"),
        *pairs(f"{ours}.norm1", f"{theirs}.attention.output.LayerNorm"),
        *pairs(f"{ours}.ffn.up", f"{theirs}.intermediate.dense"),
        *pairs(f"{ours}.ffn.down", f"{theirs}.output.dense"),
        *pairs(f"{ours}.norm2", f"{theirs}.output.LayerNorm"),
    )


def _distilbert_block(prefix: str, b: int) -> tuple[Entry, ...]:
    ours, theirs = f"blocks.{b}", f"{prefix}transformer.layer.{b}"
    products = tuple(f"{theirs}.attention.{name}_lin" for name in "qkv")
    return (
        *attention(f"{ours}.attention", products, STACKED),
        *pairs(f"{ours}.attention.out", f"{theirs}.attention.out_lin"),
        *pairs(f"{ours}.norm1", f"{theirs}.sa_layer_norm"),
        *pairs(f"{ours}.ffn.up", f"{theirs}.ffn.lin1"),
        *pairs(f"{ours}.ffn.down", f"{theirs}.ffn.lin2"),
        *pairs(f"{ours}.norm2", f"{theirs}.output_layer_norm"),
    )


def _entries(
    prefix: str,
    block: Callable[[str, int], tuple[Entry, ...]],
    *,
    pooler: str,
    instead: tuple[str, ...] = (),
    head: str,
) -> Entries:
    def entries(architecture: Architecture, shape: TransformerShape) -> tuple[Entry, ...]:
        assert isinstance(architecture.inputs, Words)
        last = deepest(shape)
        pooled = pairs(f"{last}.pooler", pooler, instead=instead, needed=False) if shape.trunk.pooler != "none" else ()
        return (
            *_inputs(prefix, architecture.inputs),
            *(entry for b in range(shape.blocks) for entry in block(prefix, b)),
            *pooled,
            *pairs(f"{last}.head", head, needed=False),
        )

    return entries


def _family(name: str, architecture: Callable[[Config], Architecture], entries: Entries, **more: Any) -> Family:
    return Family(
        name=name,
        architecture=architecture,
        entries=entries,
        prefix=f"{name}.",
        trunk=("embeddings", "encoder", "transformer", "pooler"),
        spare=("position_ids", "embeddings.token_type_ids", "pooler.dense.weight", "pooler.dense.bias"),
        **more,
    )


BERT = _family(
    "bert",
    _bert,
    _entries("bert.", _bert_block, pooler="bert.pooler.dense", head="classifier"),
)
ROBERTA = _family(
    "roberta",
    _roberta,
    _entries(
        "roberta.",
        _bert_block,
        pooler="classifier.dense",
        instead=("roberta.pooler.dense",),
        head="classifier.out_proj",
    ),
    head="classifier.out_proj",
)
DISTILBERT = _family(
    "distilbert",
    _distilbert,
    _entries("distilbert.", _distilbert_block, pooler="pre_classifier", head="classifier"),
)
