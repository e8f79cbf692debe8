"""Images that stay in their files and are decoded batch by batch: data sets that no memory holds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cosp.images.decoder import decoded
from cosp.images.pixels import channels_first, normalise


@dataclass(frozen=True, kw_only=True)
class ImageFiles:
    """Looks like the array of the images in ``paths``: indexing chooses among them, ``np.asarray`` decodes the chosen.

    ``image`` is the (H, W, C) that all are made into. Decoded they are uint8 (N, H, W, C); with ``mean`` and ``std`` (C
    values each, in pixels) normalised float32 (N, C, H, W).
    """

    paths: tuple[Path, ...]
    image: tuple[int, int, int]
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        height, width, channels = self.image
        return (len(self.paths), *((channels, height, width) if self.mean else self.image))

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, rows: slice | Sequence[int] | NDArray[np.int64]) -> ImageFiles:
        """Return the images at ``rows``, still in their files."""
        numbers = range(len(self.paths))[rows] if isinstance(rows, slice) else rows
        return replace(self, paths=tuple(self.paths[row] for row in numbers))

    def to_json(self) -> str:
        fields = {"image": self.image, "mean": self.mean, "std": self.std}
        return json.dumps({"paths": [str(path.resolve()) for path in self.paths], **fields})

    @staticmethod
    def from_json(text: str) -> ImageFiles:
        known = json.loads(text)
        paths = tuple(map(Path, known.pop("paths")))
        return ImageFiles(paths=paths, **{name: tuple(values) for name, values in known.items()})

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Decode; DataError names the file that cannot be."""
        x = np.empty((len(self.paths), *self.image), np.uint8)
        for row, path in enumerate(self.paths):
            x[row] = decoded(path, self.image, origin=str(path))
        found = normalise(channels_first(x), np.array(self.mean), np.array(self.std)) if self.mean else x
        return found if dtype is None else found.astype(dtype, copy=False)
