"""One random stream for every purpose, so that neither order nor parallelism changes a result."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def stream_seed(seed: int, *purpose: object) -> int:
    """Return a 63-bit seed for the stream named by ``purpose``, e.g. ``stream_seed(0, "batches", client, version)``."""
    digest = hashlib.blake2b(repr((seed, *purpose)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def numpy_stream(seed: int, *purpose: object) -> np.random.Generator:
    return np.random.default_rng(stream_seed(seed, *purpose))


def torch_stream(seed: int, *purpose: object) -> torch.Generator:
    import torch  # not at the top: a board's SuperNode, which asks what fleet it is part of, has none

    return torch.Generator().manual_seed(stream_seed(seed, *purpose))
