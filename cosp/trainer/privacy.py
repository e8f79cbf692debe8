"""Clip an update and add noise to it before anybody else sees it; see ``cosp.task.privacy``."""

from __future__ import annotations

import math
import secrets

import torch
from torch import Tensor

from cosp.task.privacy import PrivacySettings

AT_A_TIME = 1 << 20
"""Entries that get their noise at a time, so that it takes no second vector."""


def protect_(change: Tensor, settings: PrivacySettings, generator: torch.Generator) -> Tensor:
    """Return ``change`` (entries,) of a norm of at most ``settings.clip``, and noisy, in place.

    One that is not finite becomes noise alone: that training diverged is something of the data, too.
    """
    norm = float(torch.linalg.vector_norm(change, dtype=torch.float64))
    if not math.isfinite(norm):
        change.zero_()
    elif norm > settings.clip:
        change *= settings.clip / norm
    for part in torch.split(change, AT_A_TIME):
        part += settings.noise * settings.clip * torch.randn(len(part), generator=generator)
    return change


def secret_generator() -> torch.Generator:
    """Return a generator that nobody can seed alike: who knows the noise can take it away again."""
    return torch.Generator().manual_seed(secrets.randbits(63))
