"""A run's final model as a checkpoint that another run begins with: the names are ours on both sides."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cosp.checkpoints.architecture import Architecture, Pictures, Values, Words
from cosp.checkpoints.conversions import GRID, SAME, Conversion
from cosp.checkpoints.families import Config, Entry, Family
from cosp.checkpoints.own import FACTS, WEIGHTS, Facts, read_facts
from cosp.checkpoints.tensors import Tensors, open_tensors
from cosp.errors import ConfigError
from cosp.models import SeriesShape, TextShape, TransformerShape, ViTShape
from cosp.submodel.shape import layout_of

if TYPE_CHECKING:
    from torch import Tensor

OPTIONAL = ("policy", "quantisers")
"""Parts of blocks that one method needs and another knows nothing of."""


def _first_words(theirs: Sequence[Tensor], shape: TransformerShape) -> Tensor:
    return theirs[0][:, : shape.tokens]


FIRST_WORDS = Conversion(_first_words, lambda ours, shape: [ours], resized=True)


def open_continued(folder: Path) -> tuple[Facts, Family, Architecture, Tensors]:
    """Return what a folder written by a run holds; UserError if it is damaged."""
    facts, tensors = read_facts(folder / FACTS), open_tensors(folder / WEIGHTS)
    wanted = {name: entry.shape for name, entry in layout_of(facts.shape).items()}
    if tensors.shapes != wanted:
        wrong = sorted(
            name for name in wanted.keys() | tensors.shapes.keys() if wanted.get(name) != tensors.shapes.get(name)
        )
        raise ConfigError(
            f"{tensors.path}: {wrong[0]} has shape {tensors.shapes.get(wrong[0])}, {FACTS} says {wanted.get(wrong[0])}"
        )
    return facts, _family(facts.shape), _architecture(facts), tensors


def _architecture(facts: Facts) -> Architecture:
    shape = facts.shape
    return Architecture(
        family="cosp" if facts.likeness is None else facts.likeness.family,
        dim=shape.dim,
        blocks=shape.blocks,
        heads=shape.heads,
        hidden=shape.hidden,
        trunk=shape.trunk,
        inputs=_inputs(shape),
        pooling=shape.pooling,
        labels=facts.classes,
        exits=shape.exits,
    )


def _inputs(shape: TransformerShape) -> Pictures | Words | Values:
    if isinstance(shape, ViTShape):
        return Pictures(image=shape.image, patch=shape.patch, channels=shape.channels)
    if isinstance(shape, SeriesShape):
        return Values(steps=shape.steps, patch=shape.patch, channels=shape.channels)
    assert isinstance(shape, TextShape)
    return Words(vocabulary=shape.vocabulary, positions=shape.length, padding=shape.padding)


def _family(held: TransformerShape) -> Family:
    def entries(architecture: Architecture, shape: TransformerShape) -> tuple[Entry, ...]:
        found = (_entry(name, held, shape) for name in layout_of(shape))
        return tuple(entry for entry in found if entry is not None)

    return Family(name="cosp", architecture=_no_config, entries=entries, prefix="", trunk=(), spare=())


def _entry(name: str, held: TransformerShape, shape: TransformerShape) -> Entry | None:
    """Return where a parameter of ``shape`` comes from; None if it is of an exit that ``held`` has not."""
    part, number, *rest = name.split(".") if name.startswith("exits.") else (name, "")
    if part != "exits":
        return Entry(ours=name, theirs=(name,), conversion=_conversion(name, shape), needed=not _optional(name))
    after = shape.exits[int(number)]
    if after not in held.exits:
        return None
    theirs = ".".join((part, str(held.exits.index(after)), *rest))
    return Entry(ours=name, theirs=(theirs,), needed=rest[0] == "norm")


def _conversion(name: str, shape: TransformerShape) -> Conversion:
    if name != "positions":
        return SAME
    return GRID if isinstance(shape, ViTShape) else FIRST_WORDS


def _optional(name: str) -> bool:
    return any(part in OPTIONAL for part in name.split("."))


def _no_config(config: Config) -> Architecture:
    raise ConfigError("a model of a run has no config.json")
