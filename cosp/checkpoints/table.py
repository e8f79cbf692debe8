"""What became of a checkpoint's tensors, in a few lines for whoever starts a run."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from cosp.checkpoints.imported import Imported
from cosp.submodel.shape import layout_of

SHOWN = 6
"""So many names of each kind, then a count."""

Row = tuple[str, str, str, str]


def title(imported: Imported) -> str:
    """Return which model it is, and of what size."""
    found = imported.checkpoint.architecture
    return (
        f"{imported.checkpoint.source}: {found.family}, {found.blocks} blocks, width {found.dim}, {found.heads} heads, "
        f"hidden {found.hidden}, read by {'its first token' if imported.shape.pooling == 'class' else 'the mean'}"
    )


def rows(imported: Imported, fitted: Sequence[int] = ()) -> list[Row]:
    """Return what was loaded, copied, changed, left out and drawn anew: what, tensors, parameters, which.

    ``fitted``: after which blocks heads are fitted before training.
    """
    shapes = imported.checkpoint.tensors.shapes
    held = imported.checkpoint.family.canonical(shapes)
    heads = [name for name in imported.drawn if _is_head(imported, name, fitted)]
    drawn = [name for name in imported.drawn if name not in heads]
    left_out = sum(math.prod(shapes[held[name]]) for name in imported.left_out)
    found = [
        _row("loaded", imported.loaded, _count(imported, imported.loaded), _parts(imported, imported.loaded)),
        _row("copied", imported.copied, _count(imported, imported.copied), _parts(imported, imported.copied)),
        _row("left out", imported.left_out, left_out, imported.left_out),
        _row("drawn anew", drawn, _count(imported, drawn), _parts(imported, drawn)),
        _row("to be fitted", heads, _count(imported, heads), _parts(imported, heads)),
    ]
    changed = [("changed", "", "", text) for text in imported.changed]
    return [*(row for row in found if row[1] != "0"), *changed]


def _row(what: str, tensors: Iterable[str], parameters: int, which: Sequence[str]) -> Row:
    shown = ", ".join(which[:SHOWN]) + (f" and {len(which) - SHOWN} more" if len(which) > SHOWN else "")
    return what, str(len(list(tensors))), f"{parameters:,}", shown


def _is_head(imported: Imported, name: str, fitted: Sequence[int]) -> bool:
    part, *inner = name.split(".")
    return part == "exits" and inner[1] == "head" and imported.shape.exits[int(inner[0])] in fitted


def _count(imported: Imported, names: Iterable[str]) -> int:
    layout = layout_of(imported.shape)
    return sum(math.prod(layout[name].shape) for name in names)


def _parts(imported: Imported, names: Iterable[str]) -> list[str]:
    """Return what parameters belong to, in their order: one word for all blocks, one for each part of the exits."""
    found: dict[str, None] = {}
    exits: dict[str, list[str]] = {}
    for name in names:
        part, *inner = name.split(".")
        if part == "exits":
            after, numbers = str(imported.shape.exits[int(inner[0])]), exits.setdefault(inner[1], [])
            numbers.extend([after] if after not in numbers else [])
        elif part == "blocks" and inner[1] in ("quantisers", "policy"):
            found[inner[1]] = None
        else:
            found[part] = None
    return [*found, *(f"{part} after block {', '.join(numbers)}" for part, numbers in exits.items())]
