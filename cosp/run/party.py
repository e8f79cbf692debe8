"""Who takes part in a run, and what is believed of what each says of itself."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from flwr.serverapp import Grid
from numpy.typing import NDArray

from cosp.config import asks_words
from cosp.errors import ConfigError
from cosp.experiment import Experiment
from cosp.fleet.attackers import check_nobody_attacks, lies
from cosp.fleet.boards import one_of_each
from cosp.fleet.introduction import Introduction
from cosp.fleet.speed import speed_of
from cosp.methods import Method
from cosp.methods.method import everybody
from cosp.run.recipe import recipe_of
from cosp.run.virtual import VirtualTime
from cosp.server.admission import Admission
from cosp.server.greeting import Greeter, Wanted
from cosp.server.nodes import Guests, Nodes

Row = dict[str, Any]

GREETING_S = 300.0
"""For how long boards are waited for."""


@dataclass(frozen=True, kw_only=True)
class Party:
    """``clients`` as they count, in client order; ``claimed``: by client, what it said that is more than is believed;
    ``planned``: by client, what the fleet file plans with where its own limit is lower.

    ``greeter``: of boards that are asked by message, who is still missing and may join.
    """

    nodes: Nodes
    clients: Sequence[Introduction]
    claimed: Mapping[int, Row]
    planned: Mapping[int, Row]
    admission: Admission
    greeter: Greeter | None

    def nodes_of(self, method: Method) -> Nodes:
        """Return the nodes of those that take part in ``method``."""
        if method.takes_part is everybody:
            return self.nodes
        taking: NDArray[np.bool_] = np.fromiter(map(method.takes_part, self.clients), bool, len(self.clients))
        return self.nodes.only(taking)


def gather(
    grid: Grid,
    experiment: Experiment,
    *,
    banned: Collection[int],
    on_refused: Callable[[Row], None],
    on_wait: Callable[[Greeter], None] = lambda greeter: None,
) -> Party:
    """Meet the boards of ``grid``. One that knows them all has them introduce themselves by itself (``meet``), on any
    other each is asked by a message; nodes that are ``banned`` are not, and who says it wrongly is kept out.
    """
    admission = Admission(experiment.boards, simulated=isinstance(grid, VirtualTime))
    if not isinstance(grid, VirtualTime):
        check_nobody_attacks(experiment.boards)
    meet: Callable[[], Guests] | None = getattr(grid, "meet", None)
    if meet is not None:
        guests = meet()
        if all(board.samples is None and not lies(board) for board in one_of_each(experiment.boards)):
            return Party(
                nodes=guests.nodes, clients=guests.clients, claimed={}, planned={}, admission=admission, greeter=None
            )
        told, nodes, greeter = guests.clients, guests.nodes, None
    else:
        shape, special = experiment.shape, experiment.dataset.special_words
        greeter = Greeter(
            grid,
            len(experiment.boards),
            recipe=recipe_of(experiment),
            words=Wanted(shape.words, special) if asks_words(experiment.config) else None,
            banned=banned,
            on_refused=on_refused,
            on_wait=on_wait,
        )
        greeter.greet(timeout_s=GREETING_S, least=experiment.config.server.min_clients)
        nodes = Nodes.of({node: one.client for node, one in greeter.found.items()})
        told = sorted(greeter.found.values(), key=lambda one: one.client)
    admission.meet(told)
    admitted = [admission.admit(_with_speed(one, experiment)) for one in told]
    return Party(
        nodes=nodes,
        clients=tuple(one.introduction for one in admitted),
        claimed={one.introduction.client: one.claimed for one in admitted if one.claimed},
        planned={one.introduction.client: one.planned for one in admitted if one.planned},
        admission=admission,
        greeter=greeter,
    )


def able(clients: Sequence[Introduction], experiment: Experiment) -> Sequence[Introduction]:
    """Return those of real boards that the method can be made for; the others are for the coordinator to let sit out.

    ConfigError if it can be made for none of them.
    """
    try:
        experiment.method(clients)
    except ConfigError:
        found = tuple(client for client in clients if _can_be_alone(client, experiment))
        if not found:
            raise
        return found
    return clients


def _can_be_alone(client: Introduction, experiment: Experiment) -> bool:
    try:
        experiment.method((client,))
    except ConfigError:
        return False
    return True


def _with_speed(client: Introduction, experiment: Experiment) -> Introduction:
    """Return ``client``, which declares its speed or, as real boards do not, is taken to be what the fleet says."""
    if client.speed is not None or client.client >= len(experiment.boards):
        return client
    return replace(client, speed=speed_of(experiment.boards[client.client]))
