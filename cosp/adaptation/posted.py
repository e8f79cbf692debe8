"""The samples that a board sends, as bytes, and what the server reads of them: the same here and over a network.

Images travel as PNG or tokens, whichever is shorter; other samples as their numbers.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field, replace
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import torch
from torch import Tensor

from cosp.adaptation.answers import Answers
from cosp.adaptation.batches import Batch
from cosp.adaptation.png import COLOUR_TYPES, from_png, to_png
from cosp.adaptation.streamed import kept_of, token_messages
from cosp.adaptation.tokens import (
    TOKENS,
    TokenSettings,
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
from cosp.adaptation.upload import Choice, Seen, UploadSettings, choose
from cosp.submodel.plan import SubmodelPlan
from cosp.submodel.shape import TransformerShape

STACKED, APART, NUMBERS = 0, 1, 2
_HEAD = struct.Struct("<BH")
"""How samples lie, and how many; behind it one PNG of all, a message each, or their numbers."""
MOST = 65_535
"""Samples of a message."""
_FRAME_BYTES = 5
"""What a sample has beside its pixels where each is a message: a length and a kind."""


@dataclass(frozen=True)
class UpSettings(UploadSettings):
    """What goes up, and whether as pixels alone or as ``tokens`` where these are shorter."""

    tokens: TokenSettings = field(default_factory=TokenSettings)


@dataclass(frozen=True)
class Scale:
    """From raw samples of a ``kind`` ("images", "series", "texts") to those that a model reads: less ``mean``, divided
    by ``std``, a value a channel, in units in which a white pixel is ``white``.
    """

    kind: str
    mean: Tuple[float, ...] = ()
    std: Tuple[float, ...] = ()
    white: Optional[float] = None

    def of_levels(self) -> Dict[str, Any]:
        return {"mean": np.array(self.mean), "std": np.array(self.std), "white": self.white or 255.0}


class Model(NamedTuple):
    """What a board answers with: the submodel of ``plan``, its weights end to end."""

    plan: SubmodelPlan
    weights: Tensor


class Uploaded(NamedTuple):
    """Samples of one form that came up, and which of a message's they are."""

    batch: Batch
    rows: np.ndarray


@dataclass(frozen=True)
class Post:
    """How samples that a model of ``shape`` reads travel by ``settings``."""

    settings: UpSettings
    scale: Scale
    shape: TransformerShape

    @property
    def sample_bytes(self) -> int:
        """What a sample takes at most, alone and unpacked."""
        entries = int(np.prod(self.shape.sample_shape))
        if self.scale.kind != "images":
            return 4 * entries
        tokens = self.settings.tokens
        if tokens.how is None:
            return entries
        return min(entries, tokens_bytes(kept_of(tokens, self.shape), self.shape.dim))

    def most_bytes(self, count: int) -> int:
        """Return how long the message of ``count`` samples can be."""
        entries = int(np.prod(self.shape.sample_shape))
        return _HEAD.size + count * (4 * entries if self.scale.kind != "images" else _FRAME_BYTES + entries)

    def chosen(
        self, answers: Answers, x: np.ndarray, by: Model, seen: Seen, rng: np.random.Generator
    ) -> Tuple[Choice, Seen, bytes]:
        """Return which of a window's samples ``x`` a board sends, what it remembers after it, and their message.

        A budget counts each sample as it would be alone and unpacked: what packs to less is not gone over again.
        """
        asked = answers.probabilities[:, : answers.exit + 1].transpose(1, 0, 2)
        choice, seen = choose(self.settings, seen, asked, np.full(len(answers), self.sample_bytes), rng)
        choice = replace(choice, rows=choice.rows[:MOST])
        return choice, seen, self.written(x[choice.rows], by, rng) if len(choice.rows) else b""

    def written(self, x: np.ndarray, by: Model, rng: np.random.Generator) -> bytes:
        """Return normalised samples as they travel from a board."""
        if self.scale.kind != "images":
            return _HEAD.pack(NUMBERS, len(x)) + np.ascontiguousarray(x).tobytes()
        levels = to_levels(x, **self.scale.of_levels())
        forms = [_HEAD.pack(APART, len(x)) + framed(self._apart(x, by, levels, rng))]
        if levels.shape[-1] in COLOUR_TYPES:
            forms.insert(0, _HEAD.pack(STACKED, len(x)) + to_png(levels.reshape(-1, *levels.shape[2:])))
        return shortest(forms)

    def _apart(self, x: np.ndarray, by: Model, levels: np.ndarray, rng: np.random.Generator) -> List[bytes]:
        """Return a message a sample: its pixels, or its tokens if these are asked for and shorter."""
        pixels = [pixels_message(image) for image in levels]
        if self.settings.tokens.how is None:
            return pixels
        tokens = token_messages(self.settings.tokens, self.shape, by.plan, by.weights, x, rng)
        return [shortest([one, other]) for one, other in zip(pixels, tokens)]

    def read(self, payload: bytes, *, most: int = MOST) -> List[Uploaded]:
        """Undo ``written``; nothing of nothing. ``ValueError`` if it is not at most ``most`` finite samples; what is
        unpacked is no more than these take.
        """
        if not payload:
            return []
        if not _HEAD.size <= len(payload) <= self.most_bytes(most):
            raise ValueError(f"{len(payload)} bytes are not of at most {most} samples")
        how, count = _HEAD.unpack_from(payload)
        if not 1 <= count <= most:
            raise ValueError(f"{count} samples came where 1 to {most} may")
        found = list(self._read(how, count, payload[_HEAD.size :]))
        if not all(bool(torch.isfinite(one.batch.x).all()) for one in found):
            raise ValueError("samples must be finite")
        return found

    def _read(self, how: int, count: int, body: bytes) -> Iterator[Uploaded]:
        if (how == NUMBERS) != (self.scale.kind != "images"):
            raise ValueError(f"{self.scale.kind} do not travel in form {how}")
        if how == NUMBERS:
            yield Uploaded(Batch(torch.from_numpy(self._numbers(body, count))), np.arange(count))
        elif how == STACKED:
            channels, height, width = self.shape.sample_shape
            if channels not in COLOUR_TYPES:
                raise ValueError(f"there is no PNG of {channels} channels")
            levels = from_png(body, (count * height, width, channels)).reshape(count, height, width, channels)
            yield self._pixels(levels, np.arange(count))
        elif how == APART:
            messages = unframed(body)
            if len(messages) != count:
                raise ValueError(f"{count} samples were announced, {len(messages)} came")
            yield from self._read_apart(messages)
        else:
            raise ValueError(f"samples do not travel in form {how}")

    def _numbers(self, body: bytes, count: int) -> np.ndarray:
        words = self.scale.kind == "texts"
        found = np.frombuffer(body, np.int32 if words else np.float32).reshape(count, *self.shape.sample_shape).copy()
        vocabulary = getattr(self.shape, "vocabulary", None)
        if words and (found.min() < 0 or (vocabulary is not None and found.max() >= vocabulary)):
            raise ValueError(f"words must lie in 0..{vocabulary}")
        return found

    def _read_apart(self, messages: Sequence[bytes]) -> Iterator[Uploaded]:
        channels, height, width = self.shape.sample_shape
        seen = [i for i, message in enumerate(messages) if message[:1] != bytes([TOKENS])]
        if seen:
            levels = np.stack([read_pixels(messages[i], (height, width, channels)) for i in seen])
            yield self._pixels(levels, np.array(seen))
        tokens = [i for i, message in enumerate(messages) if message[:1] == bytes([TOKENS])]
        if tokens:
            read = [self._tokens(messages[i]) for i in tokens]
            x, sizes = (torch.from_numpy(np.stack([one[part] for one in read])) for part in (0, 1))
            yield Uploaded(Batch(x, after=self.settings.tokens.after, sizes=sizes), np.array(tokens))

    def _tokens(self, message: bytes) -> Tuple[np.ndarray, np.ndarray]:
        settings = self.settings.tokens
        if settings.how is None:
            raise ValueError("tokens came where pixels are asked for")
        x, sizes, after = read_tokens(message, self.shape.dim)
        if (len(x), after) != (kept_of(settings, self.shape), settings.after) or sizes.min() < 1:
            raise ValueError(f"{len(x)} tokens behind block {after} are not those that were asked for")
        return x, sizes

    def _pixels(self, levels: np.ndarray, rows: np.ndarray) -> Uploaded:
        return Uploaded(Batch(torch.from_numpy(from_levels(levels, **self.scale.of_levels()))), rows)
