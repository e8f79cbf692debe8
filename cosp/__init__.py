"""Collaborative training of one large transformer on many weak, unequal edge devices."""

from __future__ import annotations

__version__ = "0.1.0"
