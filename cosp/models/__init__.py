"""Transformers whose blocks can be narrow: one encoder, three kinds of input."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, Mapping

from cosp.models.series import SeriesShape
from cosp.models.text import TextShape
from cosp.models.vit import ViTShape
from cosp.submodel.shape import TransformerShape

__all__ = ["SeriesShape", "TextShape", "TransformerShape", "ViTShape", "shape_from_json"]


def shape_from_json(values: Mapping[str, Any]) -> TransformerShape:
    """Undo ``dataclasses.asdict`` of a shape that has been through JSON; ``ValueError`` if it is of no known kind."""
    for kind in (ViTShape, TextShape, SeriesShape):
        if {field.name for field in fields(kind)} == set(values):
            return kind(**{**values, "exits": tuple(values["exits"])})
    raise ValueError(f"no kind of transformer has the fields {sorted(values)}")
