"""What the server knows each board to have, and so what it sends it next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Mapping, Optional, Tuple

import numpy as np

from cosp.adaptation.download import (
    DownloadSettings,
    Form,
    Held,
    change_message,
    norms_message,
    received,
    whole_message,
)
from cosp.adaptation.kept import Keep, Take


@dataclass(frozen=True)
class Sent:
    """A message, and what the board has once it has taken it."""

    message: bytes
    after: Held

    @property
    def bytes(self) -> int:
        return len(self.message)


class Acknowledged:
    """What boards of one submodel acknowledged; boards with the same history share one vector and one message.

    A board that says that it has another base, or none, is to be forgotten: it is sent the whole then.
    """

    def __init__(self, settings: DownloadSettings, form: Form) -> None:
        self.settings = settings
        self.form = form
        self.held: Dict[int, Held] = {}
        self._under_way: Dict[int, Held] = {}
        self._made: Dict[Tuple[int, int], Tuple[Optional[Held], Optional[Sent]]] = {}
        self._made_of = -1

    def next_message(
        self, board: int, version: int, weights: np.ndarray, *, link_bytes: float = float("inf")
    ) -> Optional[Sent]:
        """Return what ``board`` is sent of ``weights``, which are ``version``; None if nothing is worth it.

        ``link_bytes``: what its link carries in a window. The whole is sent whatever it takes.
        """
        held = self.held.get(board)
        budget = self.settings.budget_bytes(self.form.total, link_bytes=link_bytes)
        if version != self._made_of:
            self._made.clear()
            self._made_of = version
        key = (id(held), budget)
        if key not in self._made:
            self._made[key] = held, self._make(held, version, weights, budget)
        sent = self._made[key][1]
        if sent is not None:
            self._under_way[board] = sent.after
        return sent

    def acknowledge(self, board: int, version: int) -> bool:
        """Take note that ``board`` has ``version``; False if that is not what it was sent last, and it is forgotten."""
        after = self._under_way.pop(board, None)
        if after is None or after.version != version:
            self.forget(board)
            return False
        self.held[board] = after
        return True

    def forget(self, board: int) -> None:
        """Take ``board`` for one that has nothing."""
        self.held.pop(board, None)
        self._under_way.pop(board, None)

    def state(self, keep: Keep) -> Dict[str, Any]:
        """Return what boards have and what is on its way to them, as JSON values."""
        return {
            name: {str(board): [one.version, keep(one.weights)] for board, one in held.items()}
            for name, held in (("held", self.held), ("under_way", self._under_way))
        }

    def restore(self, state: Mapping[str, Any], take: Take) -> None:
        """Undo :meth:`state`; boards that have the same share it again."""
        made: Dict[Tuple[int, str], Held] = {}
        for name, held in (("held", self.held), ("under_way", self._under_way)):
            for board, (version, key) in state[name].items():
                held[int(board)] = made.setdefault((version, key), Held(version, take(key)))

    def _make(self, held: Optional[Held], version: int, weights: np.ndarray, budget: int) -> Optional[Sent]:
        if held is None or self.settings.how == "whole":
            message: Optional[bytes] = whole_message(version, weights)
        elif self.settings.how == "norms":
            message = norms_message(held, version, weights, self.form)
        else:
            message = change_message(held, version, weights, self.form, budget)
        return None if message is None else Sent(message, received(message, held, self.form))
