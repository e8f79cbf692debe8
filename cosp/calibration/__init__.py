"""Real training steps timed here, and what they say of a board's rates."""

from __future__ import annotations
