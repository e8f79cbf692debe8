"""How a client's update is protected before it leaves its board, as values that travel with a task.

The update is scaled down to a Euclidean norm of at most ``clip``, then every entry of it gets Gaussian noise of
deviation ``noise * clip``: the Gaussian mechanism (Dwork and Roth 2014, appendix A) on a client's whole contribution,
clipped as in McMahan et al. 2018 (arXiv:1710.06963), with the noise added where the data are. Scores, moments and masks
are not covered.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PrivacySettings:
    """``noise``: deviation of the noise as a multiple of ``clip``. ``delta``: for which epsilon is told."""

    __pydantic_config__ = {"extra": "forbid", "allow_inf_nan": False}  # a misspelt key in a config is an error

    clip: float
    noise: float
    delta: float = 1e-5

    def __post_init__(self) -> None:
        for name in ("clip", "noise"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be > 0, got {getattr(self, name)}")
        if not 0 < self.delta < 1:
            raise ValueError(f"delta must lie in (0, 1), got {self.delta}")
