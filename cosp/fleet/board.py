"""One client of a fleet, as a value."""

from __future__ import annotations

from dataclasses import dataclass, replace

from cosp.fleet.attack import Attack
from cosp.fleet.availability import Availability
from cosp.fleet.links import Link
from cosp.fleet.profiles import DeviceProfile
from cosp.fleet.thermal import Throttle


@dataclass(frozen=True, kw_only=True)
class Change:
    """What a board is, and is asked to keep, from ``at_s`` on."""

    at_s: float
    profile: DeviceProfile
    keep: float | None


@dataclass(frozen=True, kw_only=True)
class Board:
    """One client of a fleet: a board, its link, and how it takes part."""

    client: int
    profile: DeviceProfile
    link: Link
    keep: float | None = None  # keep ratio of the model's parameters; None: as much as the memory holds
    shares: int = 1  # pseudo-clients of the data partition merged into this client
    samples: int | None = None  # the most that it is counted with, whatever it claims; None: nobody has said
    slowdown: float = 1.0  # multiplies compute time: the board does its day job as well
    dropout: float = 0.0  # chance that a dispatched task never returns
    availability: Availability | None = None  # when it is on; None: always
    throttle: Throttle | None = None  # how it slows down when hot; None: it is cooled
    battery_j: float | None = None  # energy after which it is off for good; None: mains
    changes: tuple[Change, ...] = ()  # of mode, memory or keep ratio, in the order of time
    attack: Attack | None = None  # what it does to harm the run, if it is simulated

    def __post_init__(self) -> None:
        rules = {
            "client": ("must be >= 0", self.client >= 0),
            "keep": ("must be in (0, 1] or None", self.keep is None or 0 < self.keep <= 1),
            "shares": ("must be >= 1", self.shares >= 1),
            "samples": ("must be >= 1 or None", self.samples is None or self.samples >= 1),
            "slowdown": ("must be >= 1", self.slowdown >= 1),
            "dropout": ("must be in [0, 1]", 0 <= self.dropout <= 1),
            "battery_j": ("must be > 0 or None", self.battery_j is None or self.battery_j > 0),
        }
        for name, (rule, kept) in rules.items():
            if not kept:
                raise ValueError(f"board {self.client}: {name} {rule}, got {getattr(self, name)}")

    def at(self, time_s: float) -> Board:
        """Return the board as it is at ``time_s``."""
        due = [change for change in self.changes if change.at_s <= time_s]
        return replace(self, profile=due[-1].profile, keep=due[-1].keep) if due else self
