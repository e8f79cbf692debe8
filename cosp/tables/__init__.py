"""Tables of methods at equal budget and equal virtual time: a file's ``table:`` section -> runs, tables, figures."""

from __future__ import annotations

from cosp.tables.plan import has_table

__all__ = ["has_table"]
