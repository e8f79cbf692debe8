"""FedPM's merge: a Beta posterior for the chance of keeping each frozen weight (Isik et al. 2023, arXiv:2209.15328)."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from cosp.merge.aggregation import Merged
from cosp.submodel.slicing import State


@dataclass(frozen=True)
class BetaPosterior:
    """Clients send masks; the model holds scores whose sigmoid is the posterior's mode.

    From a flat prior the mode is ones / masks. ``reset_rounds`` is after how many rounds the counts start anew.
    ``margin`` keeps chances away from 0 and 1, where a score could not move any more. Counts are kept in place of
    momentum.
    """

    masked: frozenset[str]
    reset_rounds: int = 1
    margin: float = 0.01

    def apply(self, state: State, velocity: State, merged: Merged) -> tuple[State, State]:
        """Return the new scores and counts; entries that no mask has covered, and other tensors, stay as they are."""
        rounds = int(velocity["rounds"]) if "rounds" in velocity else 0
        before = {} if rounds % self.reset_rounds == 0 else velocity
        model, counts = dict(state), dict(before, rounds=torch.tensor(rounds + 1))
        for name in sorted(self.masked & merged.delta.keys()):
            mass = merged.mass[name]
            ones = merged.delta[name] * mass + before.get(f"ones/{name}", torch.tensor(0.0))
            masks = mass + before.get(f"masks/{name}", torch.tensor(0.0))
            chance = (ones / masks.clamp_min(1e-12)).clamp(self.margin, 1 - self.margin)
            model[name] = torch.where(masks > 0, torch.logit(chance).float(), state[name])
            counts |= {f"ones/{name}": ones, f"masks/{name}": masks}
        return model, counts
