"""By what a kind of board is known."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Identity:
    """By what a kind of board is known: any of its modules, or words of its model; then its memory."""

    board: str
    modules: frozenset[str]
    model: str
    memory_bytes: int
    modes: tuple[str, ...]
