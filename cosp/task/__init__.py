"""What is asked of a client, as values that travel."""

from __future__ import annotations
