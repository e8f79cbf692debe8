"""How updates of different shapes become the next model: arithmetic alone."""

from __future__ import annotations
