"""What a run should not begin without being told."""

from __future__ import annotations

from cosp.experiment import Experiment
from cosp.methods import Method
from cosp.methods.untrained import untrained_blocks
from cosp.run.heads import unreached_exits


def caution(experiment: Experiment) -> str:
    """Say which blocks no board will train and which heads none will help to fit, and what follows from that; empty if
    each has a board. ConfigError if heads are to be fitted and no board can give anything.
    """
    method = experiment.method(experiment.introductions)
    return "\n".join(filter(None, (_untrained(experiment, method), _unfitted(experiment, method))))


def _untrained(experiment: Experiment, method: Method) -> str:
    blocks = untrained_blocks(method, experiment.introductions)
    if not blocks:
        return ""
    behind = [
        position for position in experiment.shape.exits_within(method.model.evaluated.depth) if position >= blocks[0]
    ]
    found, exits = (", ".join(map(str, numbers)) for numbers in (blocks, behind))
    return (
        f"trained by nobody: block {found} of {experiment.shape.blocks}, which no board holds; the exit after block "
        f"{exits} stays as it {'is drawn' if experiment.imported is None else 'begins'}. Raise a board's keep or "
        "memory or assignment.target_round_s, or take fewer model.blocks"
    )


def _unfitted(experiment: Experiment, method: Method) -> str:
    exits = unreached_exits(experiment, method, experiment.introductions)
    if not exits:
        return ""
    return (
        f"fitted by nobody: the head after block {', '.join(map(str, exits))}, as no board's memory holds the whole "
        "trunk up to there; it begins as it is drawn. Take a bigger board, or model.exits that boards get to"
    )
