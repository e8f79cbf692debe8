"""A checkpoint's tensors as parameters of our model, and what became of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from cosp.checkpoints.architecture import Pictures, Words
from cosp.checkpoints.checkpoint import Checkpoint
from cosp.checkpoints.families import Entry
from cosp.errors import ConfigError
from cosp.models import TransformerShape
from cosp.submodel.shape import layout_of
from cosp.submodel.slicing import State

if TYPE_CHECKING:
    from torch import Tensor

EXIT_PARTS = ("norm", "pooler")
"""What every exit gets of the checkpoint's only one; its head, made for the last block, the deepest alone."""


@dataclass(frozen=True, kw_only=True)
class Imported:
    """Which parameters come from where: ``loaded`` by our name, ``copied`` from one of ours to others of ours.

    ``left_out`` are tensors of the file that nothing is made of, ``drawn`` parameters of ours that nothing gives.
    ``changed`` says in words what was not taken as it is.
    """

    checkpoint: Checkpoint
    shape: TransformerShape
    loaded: Mapping[str, tuple[Entry, tuple[str, ...]]]
    copied: Mapping[str, str]
    left_out: tuple[str, ...]
    drawn: tuple[str, ...]
    changed: tuple[str, ...]
    rows: tuple[int, ...] | None
    """Which of the file's classes each of ours is, if they are the same in another order."""

    def state(self, fresh: State) -> State:
        """Return the model: ``fresh`` but for what the checkpoint gives; ConfigError if a tensor does not fit."""
        state = dict(fresh)
        for ours, (entry, theirs) in self.loaded.items():
            state[ours] = self._tensor(entry, theirs)
        for ours, source in self.copied.items():
            state[ours] = state[source].clone()
        return state

    def _tensor(self, entry: Entry, theirs: Sequence[str]) -> Tensor:
        tensors = self.checkpoint.tensors
        try:
            found = entry.conversion.inward([tensors[name] for name in theirs], self.shape)
        except RuntimeError:  # of torch: a table that is no square of positions
            found = torch.empty(0)
        wanted = layout_of(self.shape)[entry.ours].shape
        if tuple(found.shape) != wanted:
            raise _misfit(self.checkpoint, theirs[0], wanted)
        if self.rows is not None and ".head." in entry.ours:
            found = found[list(self.rows)]
        return found.clone().contiguous()


def import_state(checkpoint: Checkpoint, shape: TransformerShape, classes: Sequence[str]) -> Imported:
    """Return what the checkpoint gives to a model of ``shape``; ConfigError names the first tensor that is missing, too
    many or of another shape.
    """
    held = checkpoint.family.canonical(checkpoint.tensors.shapes)
    entries = checkpoint.family.entries(checkpoint.architecture, shape)
    loaded = {entry.ours: (entry, names) for entry in entries if (names := _found(checkpoint, shape, entry, held))}
    used = {name for _, names in loaded.values() for name in names}
    left_out = tuple(sorted(known for known, name in held.items() if name not in used))
    for name in left_out:
        if checkpoint.family.leftover(name):
            raise ConfigError(
                f"{checkpoint.path}: {name} is no part of a {checkpoint.architecture.family} as cosp computes it; it "
                "would be another model without"
            )
    last = f"exits.{len(shape.exits) - 1}."
    copied = {
        f"exits.{i}.{name.removeprefix(last)}": name
        for name in loaded
        if name.startswith(tuple(f"{last}{part}." for part in EXIT_PARTS))
        for i in range(len(shape.exits) - 1)
        if f"exits.{i}.{name.removeprefix(last)}" not in loaded
    }
    return Imported(
        checkpoint=checkpoint,
        shape=shape,
        loaded=loaded,
        copied=copied,
        left_out=left_out,
        drawn=tuple(name for name in layout_of(shape) if name not in loaded and name not in copied),
        changed=tuple(_changes(checkpoint, shape)),
        rows=_order(checkpoint.architecture.labels, classes),
    )


def _found(checkpoint: Checkpoint, shape: TransformerShape, entry: Entry, held: Mapping[str, str]) -> tuple[str, ...]:
    """Return the file's names of what ``entry`` is made of, none if it is to be drawn anew."""
    names = entry.theirs
    if names[0] not in held:
        names = next(((name,) for name in entry.instead if name in held), names)
    missing = [name for name in names if name not in held]
    if missing and not entry.needed:
        return ()
    if missing:
        raise ConfigError(
            f"{checkpoint.path}: {missing[0]} is missing, which a {checkpoint.architecture.family} has; take a whole "
            "file"
        )
    found = tuple(held[name] for name in names)
    ours = torch.empty(layout_of(shape)[entry.ours].shape, device="meta")
    for name, theirs in zip(found, entry.conversion.outward(ours, shape), strict=True):
        wanted, got = tuple(theirs.shape), checkpoint.tensors.shapes[name]
        if entry.conversion.resized:
            wanted, got = wanted[-1:], got[-1:]
        if wanted != got:
            if not entry.needed and ".head." in entry.ours:
                return ()  # of other classes
            raise _misfit(checkpoint, name, tuple(theirs.shape))
    return found


def _misfit(checkpoint: Checkpoint, name: str, wanted: tuple[int, ...]) -> ConfigError:
    got = checkpoint.tensors.shapes[name]
    return ConfigError(f"{checkpoint.path}: {name} has shape {got}, the model of these data needs {wanted}")


def _changes(checkpoint: Checkpoint, shape: TransformerShape) -> Iterator[str]:
    inputs, tokens = checkpoint.architecture.inputs, shape.input_tokens
    if isinstance(inputs, Pictures) and tokens != (inputs.image // inputs.patch) ** 2:
        side, wanted = inputs.image // inputs.patch, shape.sample_shape[-1] // inputs.patch
        yield f"positions interpolated from {side} x {side} patches to {wanted} x {wanted}"
    if isinstance(inputs, Words):
        if tokens < inputs.positions:
            yield f"positions: the first {tokens} of {inputs.positions}"
        if inputs.segments:
            yield "segment 0 added to the positions"


def _order(theirs: Sequence[str], ours: Sequence[str]) -> tuple[int, ...] | None:
    if list(theirs) == list(ours) or sorted(theirs) != sorted(ours) or len(set(ours)) < len(ours):
        return None
    return tuple(theirs.index(name) for name in ours)
