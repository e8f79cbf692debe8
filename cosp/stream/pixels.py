"""Images as the pixels that a board sends: 8 bits each, all of one message in one grey PNG, plane below plane."""

from __future__ import annotations

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

_MAGIC = b"\x89PNG\r\n\x1a\n"
_SIZE = struct.Struct(">IIBBBBB")
_LENGTH = struct.Struct(">I")
FILTERS = (0, 1, 2)
"""None, left, above: of which the one is taken that packs best."""


def to_png(images: NDArray[np.uint8]) -> bytes:
    """Return (N, C, H, W) as one PNG of N C H rows."""
    rows = images.reshape(-1, images.shape[-1])
    body = min((_filtered(rows, one) for one in FILTERS), key=len)
    head = _SIZE.pack(rows.shape[1], len(rows), 8, 0, 0, 0, 0)
    return _MAGIC + _chunk(b"IHDR", head) + _chunk(b"IDAT", body) + _chunk(b"IEND", b"")


def from_png(data: bytes, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Undo :func:`to_png` of images (C, H, W); ValueError if ``data`` is none such."""
    try:
        head, body = _parts(data)
        width, height = _SIZE.unpack(head)[:2]
        if width != shape[-1] or height % (shape[0] * shape[1]) or _SIZE.unpack(head)[2:] != (8, 0, 0, 0, 0):
            raise ValueError(f"images of {shape} are {shape[-1]} pixels wide and grey, got {width} x {height}")
        packed = zlib.decompressobj()
        raw = packed.decompress(body, height * (width + 1) + 1)
        lines = np.frombuffer(raw, np.uint8).reshape(height, width + 1)
    except (struct.error, zlib.error, ValueError) as error:
        raise ValueError(f"no PNG of images of {shape}: {error}") from None
    return _unfiltered(lines).reshape(-1, *shape)


def _filtered(rows: NDArray[np.uint8], how: int) -> bytes:
    changed = rows.copy()
    if how == 1:
        changed[:, 1:] -= rows[:, :-1]
    elif how == 2:
        changed[1:] -= rows[:-1]
    return zlib.compress(np.insert(changed, 0, how, axis=1).tobytes(), 9)


def _unfiltered(lines: NDArray[np.uint8]) -> NDArray[np.uint8]:
    how, rows = set(lines[:, 0].tolist()), lines[:, 1:].copy()
    if how == {1}:
        return np.add.accumulate(rows, axis=1, dtype=np.uint8)
    if how == {2}:
        return np.add.accumulate(rows, axis=0, dtype=np.uint8)
    if how - {0}:
        raise ValueError(f"its rows are filtered by {sorted(how)}, and must all be by one of {FILTERS}")
    return rows


def _chunk(name: bytes, body: bytes) -> bytes:
    return _LENGTH.pack(len(body)) + name + body + _LENGTH.pack(zlib.crc32(name + body))


def _parts(data: bytes) -> tuple[bytes, bytes]:
    """Return the head and the packed body."""
    if not data.startswith(_MAGIC):
        raise ValueError("it does not begin as one")
    found, place = {}, len(_MAGIC)
    while place < len(data):
        (length,) = _LENGTH.unpack_from(data, place)
        name, body = data[place + 4 : place + 8], data[place + 8 : place + 8 + length]
        (checksum,) = _LENGTH.unpack_from(data, place + 8 + length)
        if checksum != zlib.crc32(name + body):
            raise ValueError("it is damaged")
        found[name] = body
        place += 12 + length
    return found.get(b"IHDR", b""), found.get(b"IDAT", b"")
