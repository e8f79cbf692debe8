"""Amounts in words, three digits and a unit: for errors of every room, also those on a board."""

from __future__ import annotations

_PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def amount(value: float, unit: str) -> str:
    """Return ``4.18 M parameters`` or ``512 bytes``: bytes and FLOPs take their prefix in the short unit."""
    for size, prefix in _PREFIXES:
        if value >= size:
            return f"{value / size:.3g} {prefix}{_SHORT.get(unit, ' ' + unit)}"
    return f"{value:.0f} {unit}"


_SHORT = {"bytes": "B", "FLOPs": "FLOP"}
