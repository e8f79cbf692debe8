"""What a board is sent of an adapted model, and what it makes of it: the same bits as the server reckons with.

================  ====================================================================================================
``whole``         all weights as halves
``norms``         the LayerNorms as halves (CEMA: Chen et al. 2024, arXiv:2402.17316)
``dwc``           the change against what the board acknowledged, in units, 0, 2, 4 or 8 bits a weight, within a budget
================  ====================================================================================================

``dwc`` is our reading of dynamic weight-update compression (Wang et al. 2024, arXiv:2312.16279), whose code was not
released. What a message does not bring stays in the next one's change, as that is taken against what the board has
(error feedback). A message is, after its kind: version, the version it changes, and a checksum of the weights that the
board has then, so that one with another base is found out and sent the whole.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import Optional, Tuple

import numpy as np

from cosp.adaptation.choice import bits_of_index, body_bytes, chosen_bits, index_bytes, options_of
from cosp.adaptation.parts import check_parts, marked_entries, names_of
from cosp.adaptation.units import BITS, Units, entries_at, multiplied_out, packed, units_of, unpacked
from cosp.errors import CospError
from cosp.submodel.flat import Spans, length
from cosp.submodel.layout import Layout

WAYS = ("whole", "norms", "dwc")
HEADER = struct.Struct("<BIII")
HALF_BYTES = 2


class UnknownBase(CospError):
    """A change is against weights that the board does not have: it must be sent the whole."""


@dataclass(frozen=True)
class DownloadSettings:
    """``parts`` are what ``dwc`` may change; a message takes at most ``share`` of the bytes of whole halves, or at most
    ``most_bytes``, or (neither) what the link carries in a window.
    """

    __pydantic_config__ = {"extra": "forbid", "allow_inf_nan": False}  # a misspelt key in a config is an error

    how: str = "dwc"
    parts: Tuple[str, ...] = ("all",)
    share: Optional[float] = 0.01
    most_bytes: Optional[int] = None

    def __post_init__(self) -> None:
        if self.how not in WAYS:
            raise ValueError(f"how must be one of {WAYS}, got {self.how!r}")
        object.__setattr__(self, "parts", check_parts(self.parts))
        if self.share is not None and not 0 < self.share <= 1:
            raise ValueError(f"share must lie in (0, 1], got {self.share}")
        if self.most_bytes is not None and not self.most_bytes >= 64:
            raise ValueError(f"most_bytes must be >= 64, got {self.most_bytes}")

    def budget_bytes(self, parameters: int, *, link_bytes: float = float("inf")) -> int:
        """Return how long a message may be; ``link_bytes``: what the link carries in a window."""
        limits = [HEADER.size + HALF_BYTES * parameters, link_bytes]
        if self.share is not None:
            limits.append(self.share * HALF_BYTES * parameters)
        if self.most_bytes is not None:
            limits.append(self.most_bytes)
        return int(min(limits))


@dataclass(frozen=True)
class Held:
    """What a board has: all ``weights`` of its submodel end to end, float32, never written to."""

    version: int
    weights: np.ndarray


@dataclass(frozen=True)
class Form:
    """How both sides read a submodel's vector: which entries ``norms`` are, and the ``units`` of a change."""

    total: int
    norms: np.ndarray
    units: Units


def form_of(layout: Layout, spans: Spans, settings: DownloadSettings) -> Form:
    """Return how messages to a submodel of these ``spans`` lie."""
    return Form(
        total=length(spans),
        norms=marked_entries(spans, names_of(layout, ("norms",))),
        units=units_of(spans, names_of(layout, settings.parts)),
    )


def whole_message(version: int, weights: np.ndarray) -> bytes:
    """Return the message that brings all ``weights`` as halves."""
    halves = weights.astype("<f2")
    return _header("whole", version, version, halves.astype(np.float32)) + halves.tobytes()


def norms_message(held: Held, version: int, weights: np.ndarray, form: Form) -> bytes:
    """Return the message that brings the LayerNorms of ``weights`` as halves."""
    halves = weights[form.norms].astype("<f2")
    after = held.weights.copy()
    after[form.norms] = halves
    return _header("norms", version, held.version, after) + bytes(halves.tobytes())


def change_message(held: Held, version: int, weights: np.ndarray, form: Form, budget_bytes: int) -> Optional[bytes]:
    """Return the message that brings the board nearest to ``weights`` in ``budget_bytes``; None if nothing fits, or
    nothing is worth a byte.
    """
    places = form.units.entries(np.arange(len(form.units)))
    options = options_of(weights[places] - held.weights[places], form.units)
    bits = chosen_bits(options, form.units, budget_bytes - HEADER.size)
    if not bits.any() or HEADER.size + body_bytes(bits, form.units) > budget_bytes:
        return None
    firsts = np.cumsum(form.units.lengths) - form.units.lengths
    whose = Units(firsts, form.units.lengths, len(places))
    exponents = np.zeros(len(bits), dtype=np.int8)
    codes = {}
    for each in BITS:
        chosen = np.flatnonzero(bits == each)
        exponents[chosen] = options.at[each].exponents[chosen]
        codes[each] = options.at[each].codes[whose.entries(chosen)]
    body = index_bytes(bits) + exponents[bits > 0].tobytes() + packed(codes)
    return _header("dwc", version, held.version, _changed(held.weights, body, form)) + body


def received(message: bytes, held: Optional[Held], form: Form) -> Held:
    """Return what a board has that had ``held`` and was sent ``message``.

    :class:`UnknownBase` if the message changes what it does not have, ``ValueError`` if it cannot be read.
    """
    if len(message) < HEADER.size:
        raise ValueError(f"a message of {len(message)} bytes is none")
    kind, version, base, checksum = HEADER.unpack_from(message)
    body = message[HEADER.size :]
    if kind >= len(WAYS):
        raise ValueError(f"there is no kind {kind} of messages")
    if WAYS[kind] == "whole":
        weights = _halves(body, form.total)
    elif held is None or (WAYS[kind] == "dwc" and held.version != base):
        raise UnknownBase(f"version {base} is changed, the board has {None if held is None else held.version}")
    elif WAYS[kind] == "norms":
        weights = held.weights.copy()
        weights[form.norms] = _halves(body, int(form.norms.sum()))
    else:
        weights = _changed(held.weights, body, form)
    if zlib.crc32(weights.tobytes()) != checksum:
        raise UnknownBase(f"what version {version} is made of is not what the server reckons with")
    return Held(version, weights)


def _changed(weights: np.ndarray, body: bytes, form: Form) -> np.ndarray:
    """Return ``weights`` with the change of a message's ``body`` added, the one addition that both sides do."""
    bits, read = bits_of_index(body, len(form.units))
    sent = np.flatnonzero(bits)
    exponents = np.zeros(len(bits), dtype=np.int8)
    exponents[sent] = np.frombuffer(body[read : read + len(sent)], dtype=np.int8)
    codes = unpacked(body[read + len(sent) :], entries_at(form.units.lengths, bits))
    after = weights.copy()
    for each in BITS:
        chosen = np.flatnonzero(bits == each)
        if len(chosen):
            places = form.units.entries(chosen)
            after[places] += multiplied_out(codes[each], exponents[chosen], form.units.lengths[chosen])
    return after


def _halves(body: bytes, count: int) -> np.ndarray:
    if len(body) != HALF_BYTES * count:
        raise ValueError(f"{count} halves take {HALF_BYTES * count} bytes, got {len(body)}")
    return np.frombuffer(body, dtype="<f2").astype(np.float32)


def _header(way: str, version: int, base: int, weights: np.ndarray) -> bytes:
    return HEADER.pack(WAYS.index(way), version, base, zlib.crc32(weights.tobytes()))
