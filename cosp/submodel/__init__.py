"""Plans of integers and what follows from them: shapes, slices, budgets, scores, costs."""

from __future__ import annotations
