"""Images of 8 bits a channel as PNG and back, with Python's zlib alone: a board's trainer has no Pillow.

Grey or RGB, not interlaced; each row is filtered by whichever of the five filters leaves the least (W3C PNG, 1996).
"""

from __future__ import annotations

import struct
import zlib
from typing import Iterator, Tuple

import numpy as np

SIGNATURE = b"\x89PNG\r\n\x1a\n"
COLOUR_TYPES = {1: 0, 3: 2}
"""Channels -> PNG's colour type."""
_HEAD = struct.Struct(">IIBBBBB")


def to_png(image: np.ndarray) -> bytes:
    """Return ``image`` (H, W, 1 or 3) uint8 as a PNG file."""
    height, width, channels = image.shape
    if image.dtype != np.uint8 or channels not in COLOUR_TYPES:
        raise ValueError(f"a PNG is made of uint8 in 1 or 3 channels, got {image.dtype} in {channels}")
    head = _HEAD.pack(width, height, 8, COLOUR_TYPES[channels], 0, 0, 0)
    data = zlib.compress(_filtered(image), 9)
    return SIGNATURE + _chunk(b"IHDR", head) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def from_png(data: bytes, shape: Tuple[int, int, int]) -> np.ndarray:
    """Return the image, uint8 of ``shape`` (H, W, C); ``ValueError`` if it is none such that :func:`to_png` makes.

    No more is unpacked than an image of that shape takes.
    """
    height, width, channels = shape
    parts = dict(_chunks(data))
    head = _HEAD.pack(width, height, 8, COLOUR_TYPES[channels], 0, 0, 0)
    if parts.get(b"IHDR") != head or b"IDAT" not in parts:
        raise ValueError(f"not a PNG of {shape}")
    unpacker, wanted = zlib.decompressobj(), height * (1 + width * channels)
    try:
        flat = unpacker.decompress(parts[b"IDAT"], wanted + 1)
    except zlib.error as error:
        raise ValueError(f"a PNG's data cannot be unpacked: {error}") from None
    if len(flat) != wanted or not unpacker.eof:
        raise ValueError(f"a PNG of {shape} holds {wanted} bytes, got {len(flat)}")
    return _unfiltered(np.frombuffer(flat, dtype=np.uint8).reshape(height, -1), channels).reshape(shape)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _chunks(data: bytes) -> Iterator[Tuple[bytes, bytes]]:
    if not data.startswith(SIGNATURE):
        raise ValueError("not a PNG")
    start = len(SIGNATURE)
    while start + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, start)
        yield data[start + 4 : start + 8], data[start + 8 : start + 8 + length]
        start += length + 12


def _filtered(image: np.ndarray) -> bytes:
    height, width, channels = image.shape
    rows = np.zeros((height + 1, channels + width * channels), dtype=np.int16)  # a pixel and a row of zeros before all
    rows[1:, channels:] = image.reshape(height, -1)
    here, above = rows[1:, channels:], rows[:-1, channels:]
    left, corner = rows[1:, :-channels], rows[:-1, :-channels]
    guesses = [np.zeros_like(here), left, above, (left + above) >> 1, _paeth(left, above, corner)]
    left_over = np.stack([(here - guess).astype(np.uint8) for guess in guesses])
    signed = left_over.astype(np.int8).astype(np.int64)
    best = np.abs(signed).sum(-1).argmin(0)
    chosen = left_over[best, np.arange(height)]
    return np.concatenate([best[:, None].astype(np.uint8), chosen], axis=1).tobytes()


def _unfiltered(rows: np.ndarray, channels: int) -> np.ndarray:
    height, width = len(rows), rows.shape[1] - 1
    found = np.zeros((height + 1, channels + width), dtype=np.int64)
    for i, row in enumerate(rows.astype(np.int64)):
        here, above = found[i + 1], found[i]
        if not row[0] <= 4:
            raise ValueError(f"there is no PNG filter {row[0]}")
        if row[0] in (0, 2):
            here[channels:] = (row[1:] + (above[channels:] if row[0] else 0)) & 255
            continue
        for j in range(channels, channels + width):
            left, up, corner = here[j - channels], above[j], above[j - channels]
            guess = {1: left, 3: (left + up) >> 1}.get(int(row[0]))
            here[j] = (row[1 + j - channels] + (_paeth(left, up, corner) if guess is None else guess)) & 255
    return found[1:, channels:].astype(np.uint8)


def _paeth(left: np.ndarray, above: np.ndarray, corner: np.ndarray) -> np.ndarray:
    """Return whichever of three neighbours is nearest to left + above - corner."""
    guess = left + above - corner
    to_left, to_above, to_corner = abs(guess - left), abs(guess - above), abs(guess - corner)
    nearer = np.where(to_above <= to_corner, above, corner)
    return np.asarray(np.where((to_left <= to_above) & (to_left <= to_corner), left, nearer))
