"""What boards choose of a window, and how that travels: what each remembers for its rule is kept here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cosp.adaptation.upload import Choice, Seen, UploadSettings, choose
from cosp.checkpoints.own import Reading
from cosp.seeds import numpy_stream
from cosp.stream.answers import Answers
from cosp.stream.pixels import from_png, to_png
from cosp.stream.samples import LEVELS, from_unit, to_unit


class Uploads:
    """By ``settings``; images travel as PNG, other samples as their numbers."""

    def __init__(self, settings: UploadSettings, reading: Reading, shape: Sequence[int], *, seed: int) -> None:
        self._settings, self._reading, self._shape, self._seed = settings, reading, tuple(shape), seed
        self._seen: dict[int, Seen] = {}

    def chosen(self, client: int, answers: Answers, x: Any) -> tuple[Choice, bytes]:
        """Return which samples of a window ``client`` sends, ``rows`` among ``x``, and their message.

        A budget counts whole samples raw; where they pack to less than that, the board does not go over them again.
        """
        rng = numpy_stream(self._seed, "choice", client, int(answers.rows[0]))
        asked = answers.probabilities[:, : answers.exit + 1].transpose(1, 0, 2)
        costs = np.full(len(answers), int(np.prod(self._shape)))
        choice, self._seen[client] = choose(self._settings, self._seen.get(client, Seen()), asked, costs, rng)
        choice = replace(choice, rows=answers.rows[choice.rows])
        return choice, self.written(np.asarray(x[choice.rows])) if len(choice.rows) else b""

    def written(self, x: NDArray[Any]) -> bytes:
        """Return normalised samples as they travel."""
        if self._reading.kind != "images":
            return np.ascontiguousarray(x).tobytes()
        return to_png(np.rint(to_unit(x, self._reading) * LEVELS).astype(np.uint8))

    def read(self, payload: bytes) -> NDArray[Any] | None:
        """Undo ``written``; None of nothing. ValueError if it is no samples."""
        if not payload:
            return None
        if self._reading.kind != "images":
            kind = np.int32 if self._reading.kind == "texts" else np.float32
            return np.frombuffer(payload, kind).reshape(-1, *self._shape).copy()
        return from_unit(from_png(payload, self._shape) / np.float32(LEVELS), self._reading)
