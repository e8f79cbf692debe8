"""What the server makes of the samples that boards send: a better whole model, unless a guard refuses a step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cosp.adaptation.parts import names_of
from cosp.models.transformer import Transformer
from cosp.stream.settings import AdaptSettings
from cosp.stream.upward import Report
from cosp.submodel.layout import Layout
from cosp.submodel.shape import TransformerShape
from cosp.submodel.slicing import State
from cosp.trainer.samples import Samples

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Clean:
    """Samples with labels that the server holds, and the exit whose accuracy on them is guarded, as an index."""

    samples: Samples
    exit: int

    @torch.no_grad()
    def accuracy(self, module: Transformer) -> float:
        predicted = module(torch.from_numpy(np.asarray(self.samples.x)))[self.exit].argmax(-1).numpy()
        return float((predicted == self.samples.y).mean())


class EntropyLearner:
    """Makes the model surer of what boards sent, by its LayerNorms."""

    def __init__(
        self, settings: AdaptSettings, shape: TransformerShape, layout: Layout, model: State, clean: Clean
    ) -> None:
        self._settings, self._clean = settings, clean
        self._module = Transformer(shape)
        self._trained = names_of(layout, settings.parts)
        for name, parameter in self._module.named_parameters():
            parameter.requires_grad_(name in self._trained)
        self._waiting: list[NDArray[Any]] = []
        self._least = 0.0
        self.go_back(model)
        self._least = clean.accuracy(self._module) - settings.clean_drop

    def go_back(self, model: State) -> None:
        """Forget what was learned since ``model``."""
        self._module.load_state_dict(model)
        self._speed = {name: torch.zeros_like(model[name]) for name in self._trained}
        self._new = False

    def model(self) -> State | None:
        """Return the model by now; None if it is as it was."""
        if not self._new:
            return None
        self._new = False
        return self._state()

    def take(self, client: int, report: Report, x: NDArray[Any] | None) -> list[Row]:
        """Take samples, and learn once there is a batch."""
        if x is None:
            return []
        self._waiting += list(x)
        rows, batch = [], self._settings.batch_size
        while len(self._waiting) >= batch:
            found, self._waiting = self._waiting[:batch], self._waiting[batch:]
            rows.append(self._guarded(torch.from_numpy(np.stack(found))))
        return rows

    def _guarded(self, x: Tensor) -> Row:
        before = self._state()
        loss = self._step(x)
        accuracy = self._clean.accuracy(self._module)
        if accuracy < self._least:
            fresh = self._new
            self.go_back(before)
            self._new = fresh
            reason = f"accuracy on clean samples would be {accuracy:.3f}, below {self._least:.3f}"
            return {"kind": "refused", "samples": len(x), "loss": loss, "clean_accuracy": accuracy, "reason": reason}
        self._new = True
        return {"kind": "step", "samples": len(x), "loss": loss, "clean_accuracy": accuracy}

    def _step(self, x: Tensor) -> float:
        logs = torch.stack(self._module(x)).log_softmax(-1)
        loss = -(logs.exp() * logs).sum(-1).mean()
        parameters = dict(self._module.named_parameters())
        slopes = torch.autograd.grad(loss, [parameters[name] for name in self._trained])
        with torch.no_grad():
            for name, slope in zip(self._trained, slopes, strict=True):
                speed = self._speed[name].mul_(self._settings.momentum).add_(slope)
                parameters[name] -= self._settings.learning_rate * speed
        return float(loss.detach())

    def _state(self) -> State:
        return {name: parameter.detach().clone() for name, parameter in self._module.named_parameters()}
