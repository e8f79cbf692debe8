"""A fleet on this machine in virtual time: the grid, and what computes for it."""

from __future__ import annotations
