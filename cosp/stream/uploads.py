"""What boards choose of a window, and how that travels: what each remembers for its rule is kept here."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from cosp.adaptation.png import COLOUR_TYPES, from_png, to_png
from cosp.adaptation.teach import Batch
from cosp.adaptation.tokens import (
    TOKENS,
    framed,
    from_levels,
    pixels_message,
    read_pixels,
    read_tokens,
    shortest,
    to_levels,
    tokens_bytes,
    unframed,
)
from cosp.adaptation.upload import Choice, Seen, choose
from cosp.checkpoints.own import Reading
from cosp.seeds import numpy_stream
from cosp.stream.answers import Answers
from cosp.stream.seat import Seat
from cosp.stream.settings import UpSettings
from cosp.stream.tokens import kept_of, token_messages
from cosp.submodel.shape import TransformerShape

STACKED, APART, NUMBERS = 0, 1, 2
_HEAD = struct.Struct("<BH")
"""How samples lie, and how many; behind it one PNG of all, a message each, or their numbers."""


class Uploaded(NamedTuple):
    """Samples of one form that came up, and which of a message's they are."""

    batch: Batch
    rows: NDArray[np.int64]


class Uploads:
    """By ``settings``; images travel as PNG or tokens, whichever is shorter, other samples as their numbers."""

    def __init__(self, settings: UpSettings, reading: Reading, shape: TransformerShape, *, seed: int) -> None:
        self._settings, self._reading, self._shape, self._seed = settings, reading, shape, seed
        self._seen: dict[int, Seen] = {}

    def chosen(self, seat: Seat, answers: Answers, x: Any) -> tuple[Choice, bytes]:
        """Return which samples of a window a board sends, ``rows`` among all samples ``x``, and their message.

        A budget counts each sample as it would be alone and unpacked: what packs to less is not gone over again.
        """
        rng = numpy_stream(self._seed, "choice", seat.client, int(answers.rows[0]))
        asked = answers.probabilities[:, : answers.exit + 1].transpose(1, 0, 2)
        costs = np.full(len(answers), self.sample_bytes())
        choice, self._seen[seat.client] = choose(self._settings, self._seen.get(seat.client, Seen()), asked, costs, rng)
        choice = replace(choice, rows=answers.rows[choice.rows])
        return choice, self.written(seat, np.asarray(x[choice.rows]), rng) if len(choice.rows) else b""

    def sample_bytes(self) -> int:
        """Return what a sample takes at most."""
        return sample_bytes(self._settings, self._reading, self._shape)

    def written(self, seat: Seat, x: NDArray[Any], rng: np.random.Generator) -> bytes:
        """Return normalised samples as they travel from ``seat``."""
        if self._reading.kind != "images":
            return _HEAD.pack(NUMBERS, len(x)) + np.ascontiguousarray(x).tobytes()
        levels = to_levels(x, **self._scale)
        forms = [_HEAD.pack(APART, len(x)) + framed(self._apart(seat, x, levels, rng))]
        if levels.shape[-1] in COLOUR_TYPES:
            forms.insert(0, _HEAD.pack(STACKED, len(x)) + to_png(levels.reshape(-1, *levels.shape[2:])))
        return shortest(forms)

    def _apart(self, seat: Seat, x: NDArray[Any], levels: NDArray[np.uint8], rng: np.random.Generator) -> list[bytes]:
        """Return a message a sample: its pixels, or its tokens if these are asked for and shorter."""
        pixels = [pixels_message(image) for image in levels]
        if self._settings.tokens.how is None:
            return pixels
        tokens = token_messages(self._settings.tokens, self._shape, seat, x, rng)
        return [shortest([one, other]) for one, other in zip(pixels, tokens, strict=True)]

    def read(self, payload: bytes) -> list[Uploaded]:
        """Undo ``written``; nothing of nothing. ValueError if it is no samples."""
        if not payload:
            return []
        how, count = _HEAD.unpack_from(payload)
        body = payload[_HEAD.size :]
        if how == NUMBERS:
            kind = np.int32 if self._reading.kind == "texts" else np.float32
            found = np.frombuffer(body, kind).reshape(count, *self._shape.sample_shape).copy()
            return [Uploaded(Batch(torch.from_numpy(found)), np.arange(count))]
        channels, height, width = self._shape.sample_shape
        if how == STACKED:
            levels = from_png(body, (count * height, width, channels)).reshape(count, height, width, channels)
            return [self._pixels(levels, np.arange(count))]
        return list(self._read_apart(unframed(body)))

    def _read_apart(self, messages: Sequence[bytes]) -> Iterator[Uploaded]:
        channels, height, width = self._shape.sample_shape
        seen = [i for i, message in enumerate(messages) if message[:1] != bytes([TOKENS])]
        if seen:
            levels = np.stack([read_pixels(messages[i], (height, width, channels)) for i in seen])
            yield self._pixels(levels, np.array(seen))
        tokens = [i for i in range(len(messages)) if i not in seen]
        if tokens:
            read = [read_tokens(messages[i], self._shape.dim) for i in tokens]
            x, sizes = (torch.from_numpy(np.stack([one[part] for one in read])) for part in (0, 1))
            yield Uploaded(Batch(x, after=read[0][2], sizes=sizes), np.array(tokens))

    def _pixels(self, levels: NDArray[np.uint8], rows: NDArray[np.int64]) -> Uploaded:
        return Uploaded(Batch(torch.from_numpy(from_levels(levels, **self._scale))), rows)

    @property
    def _scale(self) -> dict[str, Any]:
        reading = self._reading
        return {"mean": np.array(reading.mean), "std": np.array(reading.std), "white": reading.white or 255.0}


def sample_bytes(settings: UpSettings, reading: Reading, shape: TransformerShape) -> int:
    """Return what a sample takes at most, alone and unpacked."""
    entries = int(np.prod(shape.sample_shape))
    if reading.kind != "images":
        return 4 * entries
    if settings.tokens.how is None:
        return entries
    return min(entries, tokens_bytes(kept_of(settings.tokens, shape), shape.dim))
