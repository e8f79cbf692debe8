"""The samples of a stream, corrupted as their time asks, laid out for whoever answers: all boards' end to end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cosp.adaptation.corruptions import corrupt
from cosp.amounts import amount
from cosp.checkpoints.own import Reading
from cosp.data.columns import Columns
from cosp.errors import ConfigError
from cosp.predict.labelled import labelled
from cosp.predict.opened import open_model
from cosp.seeds import numpy_stream
from cosp.stream.arrivals import Arrivals, arrivals
from cosp.stream.deployed import Deployed
from cosp.stream.settings import AdaptConfig
from cosp.trainer.samples import Samples

MOST_BYTES = 8 << 30
"""Of all samples of a stream, which are laid out in a temporary folder."""
LEVELS = 255.0


@dataclass(frozen=True, kw_only=True)
class Stream:
    """``comes[client]`` lies in ``samples`` from ``firsts[client]`` on."""

    samples: Samples
    comes: Mapping[int, Arrivals]
    firsts: Mapping[int, int]


def lay_out(config: AdaptConfig, deployed: Deployed, clients: Sequence[int], *, data_dir: Path | None) -> Stream:
    """Draw and corrupt what comes to ``clients``; ConfigError if images are to be corrupted and there are none."""
    pools: dict[str | None, Samples] = {}
    comes: dict[int, Arrivals] = {}
    sources: dict[int, Samples] = {}
    for client in clients:
        stream = config.stream.of(client)
        if stream.data not in pools:
            pools[stream.data] = _pool(deployed, stream.data, data_dir)
        pool = sources[client] = pools[stream.data]
        comes[client] = arrivals(stream, pool.y, seed=config.seed, client=client, until_s=config.stream.until_s)
    _check(config, deployed, comes)
    first, firsts, parts = 0, {}, []
    for client, coming in comes.items():
        firsts[client] = first
        first += len(coming)
        parts.append(_shifted(sources[client], coming, deployed.facts.reading, config.seed, client))
    samples = Samples(np.concatenate([part.x for part in parts]), np.concatenate([part.y for part in parts]))
    return Stream(samples=samples, comes=comes, firsts=firsts)


def _pool(deployed: Deployed, name: str | None, data_dir: Path | None) -> Samples:
    """Return the samples that a board's are drawn from: the run's test data, or others of its classes."""
    if name is None:
        test = deployed.experiment.splits["test"]
        return Samples(np.asarray(test.x), test.y)
    x, y, _ = labelled(open_model(deployed.path), name, data_dir=data_dir, columns=Columns())
    return Samples(x, y)


def _check(config: AdaptConfig, deployed: Deployed, comes: Mapping[int, Arrivals]) -> None:
    kind, shape = deployed.facts.reading.kind, deployed.facts.shape.sample_shape
    if kind != "images" and any(coming.shifts for coming in comes.values()):
        raise ConfigError(f"stream.drift: corrupts images, and the model reads {kind}: leave it out, and give data")
    count = sum(map(len, comes.values()))
    if not count:
        raise ConfigError("stream: nothing comes to any board; raise per_s or until_s")
    size_bytes = count * int(np.prod(shape)) * 4
    if size_bytes > MOST_BYTES:
        raise ConfigError(
            f"stream: {count:,} samples would take {amount(size_bytes, 'bytes')} in the folder of temporary files; "
            f"lower until_s or per_s until it is {amount(MOST_BYTES, 'bytes')} at most"
        )


def _shifted(pool: Samples, coming: Arrivals, reading: Reading, seed: int, client: int) -> Samples:
    """Return what comes to a board as it meets it: all that one shift is on for is corrupted by one draw."""
    x, y = pool.x[coming.rows].copy(), pool.y[coming.rows]
    starts_s = [shift.at_s for shift in coming.shifts]
    turn = np.searchsorted(starts_s, coming.times_s, side="right")
    for number, shift in enumerate(coming.shifts, start=1):
        met = np.flatnonzero(turn == number)
        if shift.corruption != "none" and len(met):
            rng = numpy_stream(seed, "corruption", client, number)
            seen = corrupt(to_unit(x[met], reading).transpose(0, 2, 3, 1), shift.corruption, shift.severity, rng)
            x[met] = from_unit(seen.transpose(0, 3, 1, 2), reading)
    return Samples(x, y)


def to_unit(x: NDArray[Any], reading: Reading) -> NDArray[np.float32]:
    """Return normalised images (N, C, H, W) as pixels in [0, 1]."""
    mean, std = (np.reshape(np.array(values, np.float32), (-1, 1, 1)) for values in (reading.mean, reading.std))
    found: NDArray[np.float32] = np.clip((x * std + mean) / np.float32(reading.white or LEVELS), 0, 1, dtype=np.float32)
    return found


def from_unit(pixels: NDArray[Any], reading: Reading) -> NDArray[np.float32]:
    """Undo :func:`to_unit`."""
    mean, std = (np.reshape(np.array(values, np.float32), (-1, 1, 1)) for values in (reading.mean, reading.std))
    found: NDArray[np.float32] = ((pixels * np.float32(reading.white or LEVELS) - mean) / std).astype(np.float32)
    return found
