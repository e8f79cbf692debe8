"""The energy that boards draw while they wait: a row a board, added up at every close."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from cosp.fleet.introduction import Introduction
from cosp.methods.records import Records


class Waiting:
    """``busy_s``: client, as text -> seconds that it was not waiting, which others keep up; ``note`` says of whom it
    has changed.
    """

    def __init__(self, records: Records, busy_s: Mapping[str, float]) -> None:
        self._records, self._busy_s = records, busy_s
        self._idle_w = records.of_clients(lambda client: client.idle_w)
        self._spent_s = np.zeros(len(records))
        for client in busy_s:
            if int(client) in records:  # else a real board that is not there now
                self.note(int(client))

    def join(self, client: Introduction) -> None:
        """Take note of one more client, the last of the records'."""
        self._idle_w = np.append(self._idle_w, client.idle_w)
        self._spent_s = np.append(self._spent_s, self._busy_s.get(str(client.client), 0.0))

    def note(self, client: int) -> None:
        self._spent_s[self._records.place_of(client)] = self._busy_s[str(client)]

    def energy_j(self, now_s: float, off_s: Mapping[int, float]) -> float:
        """Return the joules that all boards drew while they waited until ``now_s``; a board that is off draws none."""
        away_s = np.zeros(len(self._spent_s))
        if off_s:
            away_s[[self._records.place_of(client) for client in off_s]] = list(off_s.values())
        waited_s = np.maximum(0.0, now_s - self._spent_s - away_s)
        joules = np.cumsum(self._idle_w * waited_s)  # board by board, as a plain sum adds; ``sum`` rounds otherwise
        return float(joules[-1]) if len(joules) else 0.0
