"""Texts of Hugging Face data sets, in columns found by their names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from cosp.data.columns import Columns
from cosp.data.images import Source
from cosp.data.text_files import Table
from cosp.data.text_source import text_source


def has_texts(features: Mapping[str, Any], columns: Columns) -> bool:
    """Whether a column of texts was asked for, or there is one named ``text`` and none of images."""
    import datasets  # type: ignore[import-untyped]

    images = any(isinstance(feature, datasets.Image) for feature in features.values())
    return columns.text is not None or ("text" in features and not images)


def hub_texts(
    splits: Mapping[str, Any], roles: Mapping[str, str], *, name: str, origin: str, columns: Columns
) -> Source:
    """The texts of the splits that have a role; a label that is a ClassLabel brings its names."""
    label = splits[roles["train"]].features.get(columns.label or "label")
    names = getattr(label, "names", None)
    tables = {role: [_table(splits[split], f"{origin} ({split})")] for role, split in roles.items()}
    source = text_source(name, tables, columns=columns, classes=None if names is None else dict(enumerate(names)))
    unused = sorted(set(splits) - set(roles.values()))
    return replace(source, notes=tuple(f"{origin}: split '{split}' is not used" for split in unused))


def _table(part: Any, origin: str) -> Table:
    return Table(columns={column: part[column][:] for column in part.column_names}, origin=origin)
