"""The families of models that can be read: what their configurations mean, and how their tensors are called.

A family's names are one table, read from left to right by who imports and from right to left by who exports.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cosp.checkpoints.architecture import Architecture
from cosp.checkpoints.conversions import SAME, Conversion
from cosp.models import TransformerShape

Config = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One parameter of ours and the tensors of theirs that it is made of.

    ``instead`` names tensors that stand in where the first of ``theirs`` is missing. One that is not ``needed`` is
    drawn anew where the file has none; so is a head of other classes.
    """

    ours: str
    theirs: tuple[str, ...]
    conversion: Conversion = SAME
    instead: tuple[str, ...] = ()
    needed: bool = True


@dataclass(frozen=True, kw_only=True)
class Family:
    """How one family's folders are read.

    ``prefix`` is what names of the trunk begin with in a model that has a head, and need not in one that has none;
    ``trunk`` are its parts, of which nothing may be left over but what ends in one of ``spare``.
    ``head`` is its classifier.
    """

    name: str
    architecture: Callable[[Config], Architecture]
    entries: Callable[[Architecture, TransformerShape], tuple[Entry, ...]]
    prefix: str
    trunk: tuple[str, ...]
    spare: tuple[str, ...] = ()
    head: str = "classifier"

    def canonical(self, names: Mapping[str, Any]) -> dict[str, str]:
        """Return each name of a file by what this family calls it in a model with a head."""
        bare = not any(name.startswith(self.prefix) for name in names)
        found = {}
        for name in names:
            part = name.split(".", 1)[0]
            known = self.prefix + name if bare and part in self.trunk else name
            for old, new in ((".gamma", ".weight"), (".beta", ".bias")):  # of files that came from TensorFlow
                known = known[: -len(old)] + new if known.endswith(f"LayerNorm{old}") else known
            found[known] = name
        return found

    def leftover(self, name: str) -> bool:
        """Tell whether ``name``, which no entry uses, belongs to the trunk and so would change what it computes."""
        inner = name.removeprefix(self.prefix)
        inside = name.startswith(self.prefix) and inner.split(".", 1)[0] in self.trunk
        return inside and not inner.endswith(self.spare)


def pairs(ours: str, theirs: str, **more: Any) -> tuple[Entry, ...]:
    """Return the entries of a module's weight and bias."""
    instead = more.pop("instead", ())
    return tuple(
        Entry(
            ours=f"{ours}.{part}",
            theirs=(f"{theirs}.{part}",),
            instead=tuple(f"{name}.{part}" for name in instead),
            **more,
        )
        for part in ("weight", "bias")
    )


def attention(ours: str, theirs: tuple[str, ...], conversion: Conversion) -> tuple[Entry, ...]:
    """Return the entries of queries, keys and values."""
    return tuple(
        Entry(
            ours=f"{ours}.qkv_{part}",
            theirs=tuple(f"{name}.{part}" for name in theirs),
            conversion=conversion,
        )
        for part in ("weight", "bias")
    )


def deepest(shape: TransformerShape) -> str:
    """Return the name of the exit that theirs is: the one behind all blocks."""
    return f"exits.{len(shape.exits) - 1}"
