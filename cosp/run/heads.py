"""Which heads a run fits in closed form before it trains, and which of them no board gets to."""

from __future__ import annotations

from collections.abc import Sequence

from cosp.experiment import Experiment
from cosp.fleet.introduction import Introduction
from cosp.methods import Method
from cosp.server.heads import HeadFit


def head_fit(experiment: Experiment, method: Method) -> HeadFit | None:
    """Return what fits the heads of a pretrained model that are drawn anew; None if there are none."""
    evaluated = method.model.evaluated
    exits = [position for position in experiment.fitted_exits if position <= evaluated.depth]
    return HeadFit(experiment.shape, evaluated, exits) if exits else None


def unreached_exits(experiment: Experiment, method: Method, clients: Sequence[Introduction]) -> tuple[int, ...]:
    """Return the exits whose heads stay as they are drawn, as no board holds the trunk so far; ConfigError if all do.

    A board that the method leaves out gives nothing.
    """
    fit = head_fit(experiment, method)
    if fit is None:
        return ()
    taking = filter(method.takes_part, clients)
    return fit.unreached((usable_bytes(experiment, client), client.words) for client in taking)


def usable_bytes(experiment: Experiment, client: Introduction) -> int:
    return min(client.memory_bytes, experiment.limit_bytes(client))
