"""Heat: a board that computes for long without a rest slows down, and recovers when it rests.

Heat is counted in seconds of computing. It rises by one a second while the board computes and falls evenly while it
does not; at ``after_s`` the board is hot, and what is left of its work takes ``slowdown`` times as long.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Throttle:
    """When a board gets hot, what that costs, and how long it takes to cool."""

    after_s: float
    slowdown: float
    recover_s: float  # from hot to cold

    def __post_init__(self) -> None:
        for name, value, rule, kept in (
            ("after_s", self.after_s, "must be >= 0", self.after_s >= 0),
            ("slowdown", self.slowdown, "must be >= 1", self.slowdown >= 1),
            ("recover_s", self.recover_s, "must be > 0", self.recover_s > 0),
        ):
            if not kept:
                raise ValueError(f"throttle: {name} {rule}, got {value}")

    def compute_s(self, cold_s: float, heat_s: float) -> float:
        """Return how long work takes that needs ``cold_s`` on a cold board, begun at ``heat_s``."""
        fast_s = min(cold_s, max(0.0, self.after_s - heat_s))
        return fast_s + (cold_s - fast_s) * self.slowdown

    def warmed(self, heat_s: float, computed_s: float) -> float:
        return min(self.after_s, heat_s + computed_s)

    def cooled(self, heat_s: float, rested_s: float) -> float:
        return max(0.0, heat_s - rested_s * self.after_s / self.recover_s)
