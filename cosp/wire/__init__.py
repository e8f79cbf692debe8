"""Tasks and results as Flower messages."""

from __future__ import annotations
