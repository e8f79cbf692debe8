"""A sample as fewer tokens of the residual stream, which the server goes on from; beside it, as pixels.

What leaves block b of a board's submodel is as wide as the server's own, and a token's place is in its values, so some
of them are enough to go on with. Which are kept (Wang et al. 2024, arXiv:2312.16279):

===========  ==========================================================================================================
``norm``     the largest squared norm. The released code asks for the variance over dropout draws, which is that: with
             dropout p it is x^2 p / (1 - p)
``leave``    those whose absence changes the prediction most: KL(all || without), a head's pass each
``random``   the control
``merge``    no token is dropped: neighbours that are alike become their mean (after DualComp, arXiv:2604.11122; the
             rule is ours: grid neighbours, cos - tau(size), where larger regions swallow at a lower tau)
===========  ==========================================================================================================

On the wire a token is 8 bits a value, a power of two and how many were merged into it: dim + 2 bytes.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import Dict, List, Optional, Set, Tuple

import numpy as np

from cosp.adaptation.png import from_png, to_png
from cosp.adaptation.units import multiplied_out, rounded

WAYS = ("norm", "leave", "random", "merge")
RAW, PNG, TOKENS = 0, 1, 2
_HEAD = struct.Struct("<BBHH")
"""Kind, block, tokens, dim."""
MOST_MERGED = 255
TAU, SWALLOW = 0.5, 4.0
"""tau(size) = TAU + (1 - TAU) exp(-size / SWALLOW)."""


@dataclass(frozen=True)
class TokenSettings:
    """``rho`` is the share of tokens kept, rounded up, own ones (a class token) aside; ``after`` the block that they
    leave, 0 before the first. ``how`` None: pixels alone.
    """

    __pydantic_config__ = {"extra": "forbid", "allow_inf_nan": False}  # a misspelt key in a config is an error

    how: Optional[str] = None
    rho: float = 0.5
    after: int = 0

    def __post_init__(self) -> None:
        if self.how is not None and self.how not in WAYS:
            raise ValueError(f"how must be one of {WAYS}, got {self.how!r}")
        if not 0 < self.rho <= 1:
            raise ValueError(f"rho must lie in (0, 1], got {self.rho}")
        if not 0 <= self.after <= 255:
            raise ValueError(f"after must lie in 0..255, got {self.after}")

    def kept(self, tokens: int, own: int) -> int:
        """Return how many of a sample's ``tokens``, of which ``own`` are the model's, travel."""
        return own + max(1, math.ceil(self.rho * (tokens - own)))


def norm_scores(x: np.ndarray) -> np.ndarray:
    """Return each token's squared norm, (samples, tokens), for the stream ``x`` (samples, tokens, dim)."""
    return np.asarray((x.astype(np.float64) ** 2).sum(-1))


def leave_scores(whole: np.ndarray, without: np.ndarray) -> np.ndarray:
    """Return KL(all || without j) for predictions (samples, classes) and (samples, tokens, classes)."""
    p, q = np.clip(whole[:, None], 1e-12, 1), np.clip(without, 1e-12, 1)
    return np.asarray((p * (np.log(p) - np.log(q))).sum(-1))


def means_without(x: np.ndarray) -> np.ndarray:
    """Return the mean of all tokens but one, for each that is left out: the shape of ``x`` (samples, tokens, dim)."""
    if x.shape[1] < 2:
        raise ValueError("leaving a token out takes two of them")
    return np.asarray((x.sum(1, keepdims=True) - x) / (x.shape[1] - 1))


def kept_tokens(scores: np.ndarray, keep: int, own: int) -> np.ndarray:
    """Return the rows of the ``keep`` tokens, ascending, (samples, keep): own ones, then the highest scores."""
    first = np.broadcast_to(np.arange(own), (len(scores), own))
    order = np.argsort(-scores[:, own:], axis=1, kind="stable")[:, : keep - own] + own
    return np.sort(np.concatenate([first, order], axis=1), axis=1)


def merged_tokens(x: np.ndarray, keep: int, own: int, columns: int) -> Tuple[np.ndarray, np.ndarray]:
    """Merge a sample's tokens (tokens, dim) until ``keep`` are left: (keep, dim) means, and how many each is of.

    The input's tokens, behind the ``own`` ones, lie row by row in a grid of so many ``columns``; for a text or a series
    that is one row. The pair of neighbours with the largest cos - tau(size of both) is merged first.
    """
    means: Dict[int, np.ndarray] = {i: x[i].astype(np.float64) for i in range(len(x))}
    sizes = dict.fromkeys(means, 1)
    near = _neighbours(len(x) - own, columns, own)
    while len(means) > keep:
        pairs = [(a, b) for a in near for b in near[a] if a < b and sizes[a] + sizes[b] <= MOST_MERGED]
        if not pairs:
            raise ValueError(f"{len(x)} tokens cannot be merged into {keep}")
        a, b = max(pairs, key=lambda pair: _likeness(means, sizes, *pair))
        size = sizes[a] + sizes[b]
        means[a] = (sizes[a] * means[a] + sizes[b] * means[b]) / size
        sizes[a] = size
        near[a] = near[a].union(near[b]) - {a, b}
        for other in near.pop(b):
            near[other] = (near[other] - {b}).union({a} - {other})
        del means[b], sizes[b]
    rows = sorted(means)
    return np.stack([means[i] for i in rows]).astype(np.float32), np.array([sizes[i] for i in rows])


def tokens_bytes(tokens: int, dim: int) -> int:
    """Return how long a sample of so many tokens is on the wire."""
    return _HEAD.size + tokens * (dim + 2)


def tokens_message(x: np.ndarray, sizes: np.ndarray, after: int) -> bytes:
    """Return a sample's tokens (tokens, dim), each of ``sizes`` (tokens,) merged ones, as bytes."""
    tokens, dim = x.shape
    found = rounded(x.ravel(), np.full(tokens, dim), 8)
    head = _HEAD.pack(TOKENS, after, tokens, dim)
    return head + found.exponents.tobytes() + sizes.astype(np.uint8).tobytes() + found.codes.tobytes()


def read_tokens(message: bytes, dim: int) -> Tuple[np.ndarray, np.ndarray, int]:
    """Return tokens (tokens, dim) float32, their sizes, and the block they left; ``ValueError`` if they are none."""
    if len(message) < _HEAD.size or message[0] != TOKENS:
        raise ValueError("not tokens")
    _, after, tokens, width = _HEAD.unpack_from(message)
    if width != dim or not tokens or len(message) != tokens_bytes(tokens, dim):
        raise ValueError(f"{tokens} tokens of {width} in {len(message)} bytes, where {dim} values each are read")
    body = np.frombuffer(message[_HEAD.size :], dtype=np.uint8)
    exponents, sizes, codes = np.split(body, [tokens, 2 * tokens])
    values = multiplied_out(codes.astype(np.int8), exponents.astype(np.int8), np.full(tokens, dim))
    return values.reshape(tokens, dim), sizes.astype(np.int64), int(after)


def pixels_message(image: np.ndarray) -> bytes:
    """Return an image (H, W, C) uint8 as bytes: PNG, or its pixels as they are, whichever is shorter."""
    raw = bytes([RAW]) + image.tobytes()
    if image.shape[2] not in (1, 3):
        return raw
    png = bytes([PNG]) + to_png(image)
    return png if len(png) < len(raw) else raw


def read_pixels(message: bytes, shape: Tuple[int, int, int]) -> np.ndarray:
    """Undo :func:`pixels_message`; ``ValueError`` if it is no image of that ``shape``."""
    if message[:1] == bytes([PNG]):
        return from_png(message[1:], shape)
    if message[:1] != bytes([RAW]) or len(message) != 1 + math.prod(shape):
        raise ValueError(f"not pixels of {shape}: {len(message)} bytes")
    return np.frombuffer(message[1:], dtype=np.uint8).reshape(shape)


def to_levels(x: np.ndarray, *, mean: np.ndarray, std: np.ndarray, white: float) -> np.ndarray:
    """Return normalised images (N, C, H, W) as (N, H, W, C) uint8, where 255 is white."""
    values = x.transpose(0, 2, 3, 1).astype(np.float64) * std + mean
    return np.asarray(np.clip(np.rint(values * (255 / white)), 0, 255), dtype=np.uint8)


def from_levels(levels: np.ndarray, *, mean: np.ndarray, std: np.ndarray, white: float) -> np.ndarray:
    """Return images (N, H, W, C) uint8 as the model reads them: (N, C, H, W) float32, normalised."""
    values = levels.astype(np.float64) * (white / 255)
    return np.ascontiguousarray(((values - mean) / std).transpose(0, 3, 1, 2), dtype=np.float32)


def shortest(messages: List[bytes]) -> bytes:
    """Return the shortest, the first of equals."""
    return min(messages, key=len)


def framed(messages: List[bytes]) -> bytes:
    """Return all of a window's messages end to end, each behind its length (4 bytes)."""
    return b"".join(struct.pack("<I", len(message)) + message for message in messages)


def unframed(data: bytes) -> List[bytes]:
    """Undo :func:`framed`; ``ValueError`` if something is cut short."""
    found, start = [], 0
    while start < len(data):
        if start + 4 > len(data):
            raise ValueError("a window's messages are cut short")
        (length,) = struct.unpack_from("<I", data, start)
        message = data[start + 4 : start + 4 + length]
        if len(message) != length:
            raise ValueError("a window's messages are cut short")
        found.append(message)
        start += 4 + length
    return found


def _neighbours(count: int, columns: int, own: int) -> Dict[int, Set[int]]:
    near: Dict[int, Set[int]] = {own + i: set() for i in range(count)}
    for i in range(count):
        for j in ([i + 1] if (i + 1) % columns else []) + [i + columns]:
            if j < count:
                near[own + i].add(own + j)
                near[own + j].add(own + i)
    return near


def _likeness(means: Dict[int, np.ndarray], sizes: Dict[int, int], a: int, b: int) -> float:
    x, y = means[a], means[b]
    cosine = float(x @ y) / max(float(np.linalg.norm(x) * np.linalg.norm(y)), 1e-12)
    return cosine - (TAU + (1 - TAU) * math.exp(-(sizes[a] + sizes[b]) / SWALLOW))
