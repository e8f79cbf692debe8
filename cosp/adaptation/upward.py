"""What a board sends at the end of a window, as bytes: how sure it was, which classes it saw, and samples it chose."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

from cosp.adaptation.answers import Answers

_HEAD = struct.Struct("<IIfI")


@dataclass(frozen=True)
class Report:
    """Of ``samples`` that a board answered with ``version`` last: their mean uncertainty, how often each class was its
    answer, and ``payload``, the chosen ones as they travel.
    """

    version: int
    samples: int
    uncertainty: float
    predicted: np.ndarray
    payload: bytes = b""


def report_of(answers: Answers, version: int, payload: bytes) -> Report:
    """Return what a board says of its ``answers``."""
    return Report(
        version=version,
        samples=len(answers),
        uncertainty=float(np.float32(answers.uncertainty.mean())),
        predicted=np.bincount(answers.predicted, minlength=answers.classes),
        payload=payload,
    )


def to_bytes(report: Report) -> bytes:
    """Return ``report`` as it travels."""
    head = _HEAD.pack(report.version, report.samples, report.uncertainty, len(report.payload))
    return head + bytes(np.minimum(report.predicted, 65_535).astype("<u2").tobytes()) + report.payload


def from_bytes(data: bytes, classes: int) -> Report:
    """Undo :func:`to_bytes`; ValueError if ``data`` is no report on so many classes."""
    counts = _HEAD.size + 2 * classes
    if len(data) < counts:
        raise ValueError(f"a report on {classes} classes has {counts} bytes at least, got {len(data)}")
    version, samples, uncertainty, payload = _HEAD.unpack_from(data)
    if len(data) != counts + payload:
        raise ValueError(f"a report must have {counts + payload} bytes, got {len(data)}")
    predicted = np.frombuffer(data[_HEAD.size : counts], "<u2").astype(np.int64)
    return Report(version=version, samples=samples, uncertainty=uncertainty, predicted=predicted, payload=data[counts:])


def size_bytes(classes: int, payload_bytes: int) -> int:
    """Return how long a report on so many classes is with so many bytes of samples."""
    return _HEAD.size + 2 * classes + payload_bytes
