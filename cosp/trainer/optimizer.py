"""torch's optimizers by their functional forms: the same steps to the bit as ``torch.optim``'s classes.

Those import torch's compiler with their first step: 2.4 seconds and 76 MB of every process that trains, for which a
board has better uses.
"""

from __future__ import annotations

from typing import Dict, List, Optional, Sequence

import torch
from torch import Tensor
from torch.optim.adam import adam
from torch.optim.adamw import adamw
from torch.optim.sgd import sgd

BETAS, EPSILON = (0.9, 0.999), 1e-8
"""torch's own defaults (Kingma and Ba 2015, arXiv:1412.6980)."""


class Optimizer:
    """Steps ``parameters`` along their gradients, in place. ``param_groups`` is what a loss scaler reads."""

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        self.parameters = list(parameters)
        self.param_groups: List[Dict[str, List[Tensor]]] = [{"params": self.parameters}]

    def step(self) -> None:
        raise NotImplementedError

    def keep_first(self, rows: int) -> None:
        """Step no further rows of any parameter than the first ``rows``; for parameters that are matrices."""
        for i, parameter in enumerate(self.parameters):
            self.parameters[i] = first = parameter.detach()[:rows]
            first.grad = None if parameter.grad is None else parameter.grad[:rows]
        self._state_keeps_first(rows)

    def _state_keeps_first(self, rows: int) -> None:
        """Keep of what is remembered of the parameters their first ``rows``."""

    def zero_grad(self) -> None:
        for parameter in self.parameters:
            parameter.grad = None

    def _gradients(self) -> List[Tensor]:
        found = [parameter.grad for parameter in self.parameters]
        if any(gradient is None for gradient in found):
            raise ValueError("a step needs a gradient of every parameter")
        return found  # type: ignore[return-value]  # none is None


class Adam(Optimizer):
    """Adam, or with ``decoupled`` weight decay AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101)."""

    def __init__(
        self, parameters: Sequence[Tensor], lr: float, weight_decay: float = 0.0, *, decoupled: bool = False
    ) -> None:
        super().__init__(parameters)
        self._lr, self._decay, self._form = lr, weight_decay, adamw if decoupled else adam
        self._means: List[Tensor] = []
        self._squares: List[Tensor] = []
        self._steps: List[Tensor] = []

    @torch.no_grad()
    def step(self) -> None:
        if not self._steps:  # as late as torch makes them: memory is priced so
            self._means = [torch.zeros_like(parameter) for parameter in self.parameters]
            self._squares = [torch.zeros_like(parameter) for parameter in self.parameters]
            self._steps = [torch.tensor(0.0) for _ in self.parameters]
        self._form(
            self.parameters,
            self._gradients(),
            self._means,
            self._squares,
            [],
            self._steps,
            amsgrad=False,
            beta1=BETAS[0],
            beta2=BETAS[1],
            lr=self._lr,
            weight_decay=self._decay,
            eps=EPSILON,
            maximize=False,
        )

    def _state_keeps_first(self, rows: int) -> None:
        self._means = [mean[:rows] for mean in self._means]
        self._squares = [square[:rows] for square in self._squares]


class SGD(Optimizer):
    """Stochastic gradient descent with momentum."""

    def __init__(self, parameters: Sequence[Tensor], lr: float, momentum: float = 0.0, weight_decay: float = 0.0):
        super().__init__(parameters)
        self._lr, self._momentum, self._decay = lr, momentum, weight_decay
        self._buffers: List[Optional[Tensor]] = [None] * len(self.parameters)

    @torch.no_grad()
    def step(self) -> None:
        sgd(
            self.parameters,
            self._gradients(),
            self._buffers,  # which it fills
            weight_decay=self._decay,
            momentum=self._momentum,
            lr=self._lr,
            dampening=0.0,
            nesterov=False,
            maximize=False,
        )

    def _state_keeps_first(self, rows: int) -> None:
        self._buffers = [None if buffer is None else buffer[:rows] for buffer in self._buffers]
