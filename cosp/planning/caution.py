"""What a run should not begin without being told."""

from __future__ import annotations

from cosp.experiment import Experiment
from cosp.methods.untrained import untrained_blocks


def caution(experiment: Experiment) -> str:
    """Say which blocks no board will train, and what follows from that; empty if each block has a board."""
    clients = experiment.introductions
    method = experiment.method(clients)
    blocks = untrained_blocks(method, clients)
    if not blocks:
        return ""
    behind = [
        position for position in experiment.shape.exits_within(method.model.evaluated.depth) if position >= blocks[0]
    ]
    found, exits = (", ".join(map(str, numbers)) for numbers in (blocks, behind))
    return (
        f"trained by nobody: block {found} of {experiment.shape.blocks}, which no board holds; the exit after block "
        f"{exits} stays as it is drawn. Raise a board's keep or memory or assignment.target_round_s, or take fewer "
        "model.blocks"
    )
