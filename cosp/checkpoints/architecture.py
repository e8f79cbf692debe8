"""What fixes a pretrained model: integers, how its blocks compute, and what it reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from cosp.errors import ConfigError
from cosp.models import SeriesShape, TextShape, TransformerShape, ViTShape
from cosp.submodel.shape import Trunk

GELU_FLAVOURS = {
    "gelu": "exact",
    "gelu_python": "exact",
    "gelu_new": "tanh",
    "gelu_fast": "tanh",
    "gelu_pytorch_tanh": "tanh",
}


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """What an image model reads: squares of side ``image``."""

    image: int
    patch: int
    channels: int


@dataclass(frozen=True, kw_only=True)
class Values:
    """What a model of series reads: ``steps`` steps of ``channels`` values, ``patch`` steps a token."""

    steps: int
    patch: int
    channels: int


@dataclass(frozen=True, kw_only=True)
class Words:
    """What a text model reads: at most ``positions`` words, of which ``padding`` fills up.

    ``first`` is the row of the first word's position in the file's table, which has ``segments`` more embeddings.
    """

    vocabulary: int
    positions: int
    padding: int | None
    first: int = 0
    segments: int = 0


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A pretrained model without its weights. ``pooling`` is what it was made to be read by, ``labels`` its classes.

    ``exits`` are those that it has, none of a family with one behind all blocks.
    """

    family: str
    dim: int
    blocks: int
    heads: int
    hidden: int
    trunk: Trunk
    inputs: Pictures | Words | Values
    pooling: str = "class"
    labels: tuple[str, ...] = ()
    exits: tuple[int, ...] = ()

    def shape(
        self,
        *,
        classes: int,
        exits: tuple[int, ...],
        pooling: str | None,
        variant: str,
        sample_shape: tuple[int, ...],
        vocabulary: int | None = None,
        padding: int | None = None,
    ) -> TransformerShape:
        """Return the model for samples of ``sample_shape``; ConfigError if it reads none such.

        A pooler belongs to the first token: no mean of all tokens goes through it.
        """
        pooling = pooling or self.pooling
        encoder: dict[str, Any] = {
            "classes": classes,
            "dim": self.dim,
            "blocks": self.blocks,
            "heads": self.heads,
            "hidden": self.hidden,
            "exits": exits,
            "pooling": pooling,
            "variant": variant,
            "trunk": replace(self.trunk, pooler="none") if pooling == "mean" else self.trunk,
        }
        if isinstance(self.inputs, Words):
            return TextShape(**_words(self.inputs, sample_shape, vocabulary, padding), **encoder)
        if isinstance(self.inputs, Values):
            return SeriesShape(**_series(self.inputs, sample_shape), **encoder)
        return ViTShape(**_pictures(self.inputs, sample_shape), **encoder)


def gelu_flavour(name: object, where: str) -> str:
    """Return which GELU a configuration means; ConfigError if it means something else."""
    try:
        return GELU_FLAVOURS[str(name)]
    except KeyError:
        raise ConfigError(f"{where}: {name!r} is no activation that cosp knows: {', '.join(GELU_FLAVOURS)}") from None


def labels_of(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return a configuration's class names in their order; none if it does not say."""
    found = config.get("id2label")
    if not isinstance(found, dict) or not all(str(number).isdigit() for number in found):
        return ()
    return tuple(str(name) for _, name in sorted(found.items(), key=lambda pair: int(pair[0])))


def _words(inputs: Words, sample_shape: tuple[int, ...], vocabulary: int | None, padding: int | None) -> dict[str, Any]:
    if vocabulary is None:
        raise ConfigError("model.pretrained: the model reads texts, the data are none; for images take a ViT or DeiT")
    if vocabulary > inputs.vocabulary:
        raise ConfigError(
            f"model.pretrained: the data have word {vocabulary - 1}, the model knows 0..{inputs.vocabulary - 1}: make "
            "them with the model's own tokenizer"
        )
    if sample_shape[0] > inputs.positions:
        raise ConfigError(
            f"model.pretrained: texts have {sample_shape[0]} words, the model at most {inputs.positions}: cut them"
        )
    return {
        "vocabulary": inputs.vocabulary,
        "length": sample_shape[0],
        "padding": inputs.padding if padding is None else padding,
    }


def _pictures(inputs: Pictures, sample_shape: tuple[int, ...]) -> dict[str, Any]:
    if len(sample_shape) != 3:
        raise ConfigError(
            "model.pretrained: the model reads images, the data are none; for texts take a BERT, RoBERTa or DistilBERT"
        )
    channels, height, width = sample_shape
    if height != width:
        raise ConfigError(f"data.name: images are {height} x {width}; they must be square (data.image_size)")
    return {"image": height, "patch": inputs.patch, "channels": channels}


def _series(inputs: Values, sample_shape: tuple[int, ...]) -> dict[str, Any]:
    wanted = (inputs.steps, inputs.channels)
    if sample_shape != wanted:
        raise ConfigError(f"model.pretrained: the model reads series of {wanted}, the data are {sample_shape}")
    return {"steps": inputs.steps, "patch": inputs.patch, "channels": inputs.channels}
