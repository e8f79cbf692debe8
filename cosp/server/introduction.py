"""What a client says of itself; apart from the rest, because a ClientApp on a board has no torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Introduction:
    """What a client says of itself when it joins. ``keep`` None asks for as much as ``memory_bytes`` holds."""

    client: int
    board: str
    link: str
    keep: float | None
    memory_bytes: int
    samples: int
    test_samples: int
    class_counts: tuple[int, ...]
    idle_w: float = 0.0
