"""Transformers whose blocks can be narrow: one encoder, three kinds of input."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any, Dict, Mapping

from cosp.models.series import SeriesShape
from cosp.models.text import TextShape
from cosp.models.vit import ViTShape
from cosp.submodel.adapters import Adapters
from cosp.submodel.shape import TransformerShape, Trunk

__all__ = [
    "Adapters",
    "SeriesShape",
    "TextShape",
    "TransformerShape",
    "Trunk",
    "ViTShape",
    "shape_from_json",
    "shape_to_json",
]


LATER = ("padding", "trunk", "unknown", "adapters")
"""Fields that a shape's JSON lacks where they say nothing: older boards read it, and theirs is read here."""
PARTS: Dict[str, Any] = {"trunk": Trunk, "adapters": Adapters}
"""Fields that are values of several."""


def shape_to_json(shape: TransformerShape) -> Dict[str, Any]:
    """Return the values of ``shape`` as JSON takes them."""
    values: Dict[str, Any] = asdict(shape)  # type: ignore[call-overload]
    usual = {field.name: field.default for field in fields(shape) if field.name in LATER}  # type: ignore[arg-type]
    return {name: value for name, value in values.items() if name not in usual or getattr(shape, name) != usual[name]}


def shape_from_json(values: Mapping[str, Any]) -> TransformerShape:
    """Undo :func:`shape_to_json` of a shape that has been through JSON; ``ValueError`` if it is of no known kind."""
    for kind in (ViTShape, TextShape, SeriesShape):
        known = {field.name for field in fields(kind)}
        if known.difference(LATER) <= set(values) <= known:
            parts = {name: of(**values[name]) for name, of in PARTS.items() if values.get(name)}
            return kind(**{**values, "exits": tuple(values["exits"]), **parts})
    raise ValueError(f"no kind of transformer has the fields {sorted(values)}")
