"""The idx format of MNIST and its kin: a big-endian header, then unsigned bytes.

Source: http://yann.lecun.com/exdb/mnist/ (bottom of the page).
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cosp.errors import DataError

UNSIGNED_BYTE = 8  # the third byte of the magic number; the fourth is the number of dimensions


def read_idx(path: Path, *, dimensions: int) -> NDArray[np.uint8]:
    """The array in ``path`` (plain, or gzip if it ends in .gz); DataError if it is no whole idx file of that rank."""
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"{path}: cannot be read ({error}); the file is damaged or cut short, fetch it again"
        ) from error
    magic = bytes((0, 0, UNSIGNED_BYTE, dimensions))
    header_bytes = 4 + 4 * dimensions
    if content[:4] != magic or len(content) < header_bytes:
        raise DataError(
            f"{path}: an idx file of {dimensions} dimensions starts with {magic.hex()}, got {content[:4].hex()}"
        )
    shape = struct.unpack(f">{dimensions}I", content[4:header_bytes])
    if len(content) - header_bytes != math.prod(shape):
        raise DataError(
            f"{path}: its header promises {math.prod(shape)} bytes {shape}, got {len(content) - header_bytes}; "
            "fetch it again"
        )
    return np.frombuffer(content, np.uint8, offset=header_bytes).reshape(shape)
