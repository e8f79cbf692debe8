"""What simulated boards choose of a window, and how that travels: what each remembers for its rule is kept here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cosp.adaptation.answers import Answers
from cosp.adaptation.posted import Model, Post, Scale, Uploaded, UpSettings
from cosp.adaptation.upload import Choice, Seen
from cosp.checkpoints.own import Reading
from cosp.seeds import numpy_stream
from cosp.stream.seat import Seat
from cosp.submodel.shape import TransformerShape


def post_of(settings: UpSettings, reading: Reading, shape: TransformerShape) -> Post:
    """Return how samples of a model travel that reads its own as ``reading`` says."""
    return Post(settings, Scale(reading.kind, reading.mean, reading.std, reading.white), shape)


class Uploads:
    """By ``post``."""

    def __init__(self, post: Post, *, seed: int) -> None:
        self._post, self._seed = post, seed
        self._seen: dict[int, Seen] = {}

    def chosen(self, seat: Seat, answers: Answers, x: Any) -> tuple[Choice, bytes]:
        """Return which samples of a window a board sends, ``rows`` among all samples ``x``, and their message."""
        rng = numpy_stream(self._seed, "choice", seat.client, int(answers.rows[0]))
        seen = self._seen.get(seat.client, Seen())
        model = Model(seat.plan, seat.answering[-1].weights)
        own: NDArray[Any] = np.asarray(x[answers.rows])
        choice, self._seen[seat.client], message = self._post.chosen(answers, own, model, seen, rng)
        return replace(choice, rows=answers.rows[choice.rows]), message

    def state(self) -> dict[str, Any]:
        """Return what boards remember, as JSON values."""
        return {str(client): asdict(seen) for client, seen in self._seen.items()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Undo ``state``."""
        for client, seen in state.items():
            mean = seen["sent_mean"]
            self._seen[int(client)] = Seen(**{**seen, "sent_mean": None if mean is None else tuple(mean)})

    def read(self, payload: bytes) -> list[Uploaded]:
        """Return the samples of a message."""
        return self._post.read(payload)
