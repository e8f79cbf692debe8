"""TensorBoard: event files in a folder, scalars at versions, figures as images, the configuration as text."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cosp.track.tracker import Wanted, folder_of, library

EXTRA = "tensorboard"
LIBRARY = "tensorboard"


class TensorBoard:
    """``place`` is a log folder; the run is a folder in it."""

    def __init__(self, wanted: Wanted) -> None:
        library(LIBRARY, EXTRA)
        writer = library("torch.utils.tensorboard", EXTRA).SummaryWriter
        place = folder_of(wanted)
        self.run = wanted.run or _free(place, wanted.name)
        going_on = wanted.after + 1 if wanted.run else None
        self._writer: Any = writer(str(place / self.run), purge_step=going_on)  # what a killed process wrote on is void
        if wanted.run is None:
            rows = (f"| `{key}` | `{value}` |" for key, value in wanted.settings.items())
            self._writer.add_text("config", "\n".join(["| key | value |", "| --- | --- |", *rows]), 0)

    def log(self, version: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, version)
        self._writer.flush()

    def files(self, version: int, pictures: Mapping[str, Path], others: list[Path]) -> None:
        from matplotlib.image import imread

        for name, path in pictures.items():
            self._writer.add_image(f"figures/{name}", imread(path)[..., :3], version, dataformats="HWC")

    def close(self, *, failed: bool) -> None:
        self._writer.close()


def _free(place: Path, name: str) -> str:
    """Return a name that no other run in the folder has."""
    names = (name if n == 1 else f"{name}-{n}" for n in range(1, 1_000_000))
    return next(candidate for candidate in names if not (place / candidate).exists())
