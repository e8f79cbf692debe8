"""FedPM (Isik et al. 2023, arXiv:2209.15328): weights stay random, clients learn which of them to keep.

The server holds a score for every matrix entry, clients send back one drawn mask: a bit a weight, a 32nd of what
others send. They still receive float32 scores and hold the whole model, scores and frozen weights: no memory is saved.

Ours: norms, biases, positions and class token stay as drawn (the original's networks have no norms, and it masks
biases); scores start at zero; they have a learning rate of their own and no weight decay.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Literal

import torch
from pydantic import Field

from cosp.merge.posterior import BetaPosterior
from cosp.merge.staleness import unit
from cosp.methods.method import LocalTraining, Merging, Method, ServedModel, Setting, Submodels
from cosp.methods.rules import Settings
from cosp.seeds import torch_stream
from cosp.submodel.matrices import signed_weights
from cosp.submodel.slicing import State
from cosp.task.local import LocalSettings
from cosp.transfer import TransferSettings


class FedPM(Settings):
    """``reset_rounds`` is after how many rounds the posterior forgets: the original's 1 / rho."""

    takes_fitted_heads: ClassVar[bool] = False  # heads are masked, too
    takes_frozen: ClassVar[bool] = False
    takes_checkpointing: ClassVar[bool] = False
    takes_company: ClassVar[bool] = False
    takes_some_words: ClassVar[bool] = False  # so is the word table, whose frozen weights are drawn as a whole

    name: Literal["fedpm"] = "fedpm"
    transfer: TransferSettings = TransferSettings(teacher="none")
    balanced: bool = False
    score_learning_rate: float = Field(0.1, gt=0)
    reset_rounds: int = Field(1, ge=1)

    def build(self, setting: Setting) -> Method:
        plan, local = setting.model.full_plan(), LocalSettings(view="fedpm")
        weights = signed_weights(setting.model, setting.seed)

        def initial(state: State) -> State:
            return {name: torch.zeros_like(tensor) if name in weights else tensor for name, tensor in state.items()}

        def served(state: State) -> State:
            drawn = {name: _drawn(state[name], setting.seed, name) * weights[name] for name in weights}
            return {**state, **drawn}

        return Method(
            name=self.name,
            submodels=Submodels(plan=lambda client: plan, depth=lambda client: plan.depth),
            local=LocalTraining(
                transfer=self.transfer,
                balanced=self.balanced,
                settings=lambda t: replace(t, learning_rate=self.score_learning_rate, weight_decay=0.0),
                steps=lambda client: local,
            ),
            merging=Merging(
                weigh=unit(), step=BetaPosterior(masked=frozenset(weights), reset_rounds=self.reset_rounds)
            ),
            model=ServedModel(evaluated=plan, initial=initial, served=served),
        )


def _drawn(scores: torch.Tensor, seed: int, name: str) -> torch.Tensor:
    """Return one mask; the same coins at every version, so that only the chances change between evaluations."""
    coins = torch.rand(scores.shape, generator=torch_stream(seed, "served mask", name))
    return (coins < torch.sigmoid(scores)).float()
