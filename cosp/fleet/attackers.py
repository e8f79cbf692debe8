"""Which boards of a fleet attack, and whether a run has room for what they do."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cosp.errors import ConfigError
from cosp.fleet.attack import ON_DATA, ON_REPLIES
from cosp.fleet.board import Board
from cosp.fleet.boards import Boards, one_of_each


def check_attacks(boards: Sequence[Board], *, data: str, kind: str, classes: int, streamed: bool, masks: bool) -> None:
    """ConfigError unless a run on ``data``, of this ``kind``, can have the attacks. ``streamed``: samples stay in their
    files; ``masks``: boards send masks, no weight changes.
    """
    kinds = {board.attack.kind for board in one_of_each(boards) if board.attack}
    by_reply, by_data, targets = sorted(kinds & {*ON_REPLIES}), sorted(kinds & {*ON_DATA}), _targets(boards)
    wrong = None
    if by_reply and masks:
        wrong = f"{by_reply[0]} changes weight changes, and boards send masks: take another attack or method"
    elif by_data and streamed:
        wrong = f"{by_data[0]} needs the data in memory: set data.stream: false"
    elif targets and kind != "images":
        wrong = f"backdoor puts a trigger on images, {data} has {kind}: take another attack"
    elif len(targets) > 1:
        wrong = f"backdoor: target must be one for all boards, got {', '.join(map(str, sorted(targets)))}"
    elif targets and max(targets) >= classes:
        wrong = f"backdoor: target must be below {classes}, the number of classes, got {max(targets)}"
    if wrong:
        raise ConfigError(f"fleet: attack: {wrong}")


def check_nobody_attacks(boards: Sequence[Board]) -> None:
    """ConfigError if the fleet has attackers, which real boards are not asked to be."""
    for board in one_of_each(boards):
        if board.attack is not None:
            raise ConfigError(
                f"fleet: board {board.client}: attack {board.attack.kind} is of simulated boards alone: remove it"
            )


def backdoor_of(boards: Sequence[Board]) -> int | None:
    """Return to what class the fleet's backdoor boards lead, None if there are none."""
    return next(iter(_targets(boards)), None)


def by_data(boards: Sequence[Board]) -> list[int]:
    """Return the clients that attack by the data that they train on."""
    if not any(_by_data(board) for board in one_of_each(boards)):
        return []
    if isinstance(boards, Boards):
        return [int(client) for client in np.flatnonzero(boards.of_kinds(_by_data))]
    return [board.client for board in boards if _by_data(board)]


def lies(board: Board) -> bool:
    """Tell whether a board claims more samples than it has."""
    return board.attack is not None and board.attack.kind == "lie_samples"


def _by_data(board: Board) -> bool:
    return board.attack is not None and board.attack.kind in ON_DATA


def _targets(boards: Sequence[Board]) -> set[int]:
    return {board.attack.target for board in one_of_each(boards) if board.attack and board.attack.kind == "backdoor"}
