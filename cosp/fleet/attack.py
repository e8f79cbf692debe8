"""What a simulated board does to harm the run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["sign_flip", "scale", "noise", "label_flip", "backdoor", "lie_samples"]

ON_REPLIES: tuple[Kind, ...] = ("sign_flip", "scale", "noise")
"""What changes the weight change that a board sends back."""
ON_DATA: tuple[Kind, ...] = ("label_flip", "backdoor")
"""What changes the data that a board trains on."""
FACTORS: dict[Kind, float] = {"sign_flip": 1.0, "scale": 1000.0, "noise": 1.0, "lie_samples": 1000.0}
"""Kinds that have a factor, and what it is unless somebody says so."""
SHARE = 0.5
"""Share of a backdoor board's samples that bear the trigger, unless somebody says so."""


@dataclass(frozen=True, kw_only=True)
class Attack:
    """One board's attack, from ``at_s`` on.

    "sign_flip" sends ``-factor`` times its update, "scale" ``factor`` times, "noise" adds normal numbers of ``factor``
    times its root mean square. "label_flip" trains on the last class for the first, and so on. "backdoor" puts a
    trigger on the ``share`` of its samples and calls them ``target``. "lie_samples" claims ``factor`` times as many
    samples as it has.
    """

    kind: Kind
    at_s: float = 0.0
    factor: float = 1.0
    target: int = 0
    share: float = SHARE

    def on_at(self, sent_s: float) -> bool:
        """Tell whether a task that was sent then is attacked."""
        return sent_s >= self.at_s
