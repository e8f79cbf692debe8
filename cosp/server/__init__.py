"""The server of a run: who works, what is merged, what is written down. Knows no files."""

from __future__ import annotations
