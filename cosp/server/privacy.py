"""How much of a client's data its updates can have told so far: epsilon at the run's delta.

Counted by Opacus's Renyi accountant (Mironov 2017, arXiv:1702.07476), for a client that is there or is not, with all it
ever sends. Every training task that a client was given counts, whether or not its update was merged: it may have been
read. Nobody's tasks are hidden among others', so nothing is taken off for sampling.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from cosp.errors import ConfigError
from cosp.fleet.introduction import Introduction
from cosp.methods.clients import ClientRecord
from cosp.methods.method import Method
from cosp.task.privacy import PrivacySettings
from cosp.task.scoring import ScoreSettings

ORDERS = [1 + tenth / 10 for tenth in range(1, 100)] + list(range(12, 64)) + [128, 256, 512, 1024]

READS_NO_DATA = ("magnitude",)
"""Ways of scoring that look at weights alone."""


@lru_cache(maxsize=4096)
def epsilon(settings: PrivacySettings, updates: int) -> float:
    """Return epsilon, at ``settings.delta``, of so many updates of one client."""
    if not updates:
        return 0.0
    rdp = _opacus()
    spent = rdp.compute_rdp(q=1.0, noise_multiplier=settings.noise, steps=updates, orders=ORDERS)
    return float(rdp.get_privacy_spent(orders=ORDERS, rdp=spent, delta=settings.delta)[0])


def check(method: Method, introduction: Introduction | None, *, fits_heads: bool, asks_words: bool) -> None:
    """ConfigError if ``method`` sends more of a client's data than its updates, or if there is no accountant."""
    _opacus()
    scoring: ScoreSettings | None = method.submodels.scoring
    if scoring is not None and scoring.how not in READS_NO_DATA:
        raise ConfigError(
            f"training.privacy: covers updates alone, but {method.name} chooses units by scores of a client's data "
            f"({scoring.how}): take method.units rolling, random or prefix where the method has them, or another method"
        )
    if introduction is not None and method.local.steps(ClientRecord(introduction)).view == "fedpm":
        raise ConfigError(
            f"training.privacy: an update of {method.name} is a mask of bits, to which no noise can be added"
        )
    if asks_words:
        raise ConfigError(
            "training.privacy: covers updates alone, but model.vocabulary asks each client for its words: take "
            "model.vocabulary whole"
        )
    if fits_heads:
        raise ConfigError(
            "training.privacy: covers updates alone, but model.heads ridge is fitted to sums of the clients' features: "
            "take model.heads fresh"
        )


def _opacus() -> Any:
    try:
        from opacus.accountants.analysis import rdp  # type: ignore[import-untyped]
    except ModuleNotFoundError:
        raise ConfigError("training.privacy: counting epsilon needs Opacus: pip install 'cosp[privacy]'") from None
    return rdp
