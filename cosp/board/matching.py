"""Which of the known boards a machine is, and in which of its modes it runs."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from cosp.board.machine import Machine
from cosp.fleet.identity import Identity

MEMORY_TOLERANCE = 1.25
"""Factor by which the memory that a machine reports may differ from that of its board: firmware reserves some."""

NAME_PREFIX = "MODE_"
"""What nvpmodel puts before the names of some boards' modes and our profiles leave out."""


@dataclass(frozen=True, kw_only=True)
class Match:
    """The board that a machine is; ``mode`` None if the machine's mode is unknown, or unknown to the board's file."""

    board: str
    mode: str | None


def match(machine: Machine, known: Iterable[Identity]) -> Match | None:
    """Return which of the ``known`` boards ``machine`` is, None if none.

    Boards that differ by memory alone share modules and models: the nearest one is taken.
    """
    alike = [one for one in known if _named(machine, one)]
    near = [(distance, one) for one in alike if (distance := _memory_distance(machine, one)) <= MEMORY_TOLERANCE]
    if not near:
        return None
    _, found = min(near, key=lambda pair: pair[0])
    return Match(board=found.board, mode=_mode(machine, found.modes))


def _named(machine: Machine, board: Identity) -> bool:
    by_model = bool(board.model) and board.model in machine.model
    return by_model or bool(board.modules.intersection(machine.modules))


def _memory_distance(machine: Machine, board: Identity) -> float:
    if not machine.memory_bytes:
        return math.inf
    ratio = machine.memory_bytes / board.memory_bytes
    return max(ratio, 1 / ratio)


def _mode(machine: Machine, known: tuple[str, ...]) -> str | None:
    """Return the profile's name of the machine's mode.

    JetPack 6.2's Super configuration gave old names to new clocks. A profile keeps both apart by a suffix, the machine
    by having a MAXN_SUPER or not.
    """
    name = machine.mode[len(NAME_PREFIX) :] if machine.mode.startswith(NAME_PREFIX) else machine.mode
    suffix = "_SUPER" if "MAXN_SUPER" in machine.modes else "_ORIGINAL"
    return next((one for one in (name + suffix, name) if name and one in known), None)
