"""The command line: one file a group of commands. Nothing imports this room."""

from __future__ import annotations
