"""A finished model that answers: which class a sample is, by which exit, in how many milliseconds."""

from __future__ import annotations

import threading
import time
from typing import Any, Dict, List, Optional

import numpy as np
import torch

from cosp.errors import UserError
from cosp.trainer.finished import Finished
from cosp.trainer.own import prepared, prepared_images, raw_shape
from cosp.trainer.power import PowerMeter

Answer = Dict[str, Any]


class Answering:
    """Answers one sample after another, whoever asks. ``last``: the block behind whose exit everybody leaves, None: the
    one that did best on validation data. ``confident``: leave before at the first exit that is so sure.
    """

    def __init__(
        self,
        model: Finished,
        *,
        last: Optional[int] = None,
        confident: Optional[float] = None,
        meter: Optional[PowerMeter] = None,
        device: Optional[str] = None,
    ) -> None:
        if last is not None and last not in model.exits:
            raise UserError(
                f"--exit {last}: there is no exit behind block {last}; exits stand behind blocks "
                f"{', '.join(map(str, model.exits))}"
            )
        if confident is not None and not 0 < confident <= 1:
            raise UserError(f"--confident {confident}: must lie in (0, 1]")
        self.model = model
        self.last = model.chosen if last is None else last
        self.confident = confident
        self.meter = meter
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        model.module.to(self.device)
        self._alone = threading.Lock()

    def about(self) -> Dict[str, Any]:
        """Return what answers, and how."""
        recipe = self.model.recipe
        return {
            "data": recipe.data,
            "classes": list(recipe.classes),
            "sample_shape": list(recipe.sample_shape),
            "exits": list(self.model.exits),
            "exit": self.last,
            "confident": self.confident,
            "device": str(self.device),
        }

    def picture(self, encoded: bytes) -> List[Answer]:
        """Return the answer to an encoded image; DataError if it is none."""
        return self._answers(prepared_images([("the picture", encoded)], self.model.recipe))

    def arrays(self, x: np.ndarray) -> List[Answer]:
        """Return the answers to raw samples, one or several; DataError if the model reads no such."""
        recipe = self.model.recipe
        shape = raw_shape(recipe)
        one = x.shape == shape or (recipe.kind != "texts" and (*x.shape, 1) == shape)
        return self._answers(prepared(x[np.newaxis] if one else x, recipe, "the samples"))

    def _answers(self, x: np.ndarray) -> List[Answer]:
        with self._alone:
            return [self._answer(torch.from_numpy(sample[np.newaxis])) for sample in x]

    @torch.no_grad()
    def _answer(self, sample: torch.Tensor) -> Answer:
        started_s = time.perf_counter()
        for after, logits in zip(self.model.exits, self.model.module.in_turn(sample.to(self.device))):
            row = torch.softmax(logits[0].double(), -1).cpu()
            if after == self.last or (self.confident is not None and float(row.max()) >= self.confident):
                break
        best = int(row.argmax())
        return {
            "class": self.model.recipe.classes[best],
            "probability": float(row[best]),
            "exit": after,
            "ms": 1e3 * (time.perf_counter() - started_s),
        }
