"""Who lies, how often in a row, and who is sent nothing more for it."""

from __future__ import annotations

from typing import Any

from cosp.errors import CospError
from cosp.server.greeting import least_of
from cosp.server.ledger import Ledger

Row = dict[str, Any]


class Conduct:
    """Counts lies in ``ledger``, which a checkpoint holds, so that a ban outlives a restart.

    ``ban_after`` lies in a row a client is banned, None: never. Of the fleet's ``boards`` at least ``min_clients``
    (None: half) must be left.
    """

    def __init__(self, ledger: Ledger, *, boards: int, ban_after: int | None, min_clients: int | None) -> None:
        self._ledger = ledger
        self._boards = boards
        self._ban_after = ban_after
        self._least = least_of(boards, min_clients)

    @property
    def banned(self) -> list[int]:
        """Clients that get no task any more, for what they said."""
        return sorted(map(int, self._ledger.banned))

    @property
    def banned_nodes(self) -> set[int]:
        return set(self._ledger.banned.values())

    def told_the_truth(self, client: int) -> None:
        self._ledger.lies.pop(str(client), None)

    def lied(self, client: int, node: int, reason: str) -> Row | None:
        """Count a lie; return the row of a ban, if it was one too many."""
        key = str(client)
        lies = self._ledger.lies[key] = self._ledger.lies.get(key, 0) + 1
        if self._ban_after is None or lies < self._ban_after or key in self._ledger.banned:
            return None
        self._ledger.banned[key] = node
        return {"kind": "ban", "client": client, "node": node, "reason": reason, "lies": lies}

    def check_left(self, clients: int) -> None:
        """CospError if too few of so many ``clients`` are not banned."""
        left = clients - len(self.banned)
        if left < min(self._least, clients):
            raise CospError(
                f"{len(self.banned)} of {self._boards} boards are banned for what they sent, {left} are left and at "
                f"least {self._least} must be (server.min_clients): see kind ban in the rows; refused "
                f"{self._ledger.refused}"
            )
