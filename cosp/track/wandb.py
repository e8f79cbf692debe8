"""Weights & Biases, offline: files in a folder, which ``wandb sync`` may send later."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cosp.track.tracker import Wanted, folder_of, library

EXTRA = "wandb"
LIBRARY = "wandb"
PROJECT = "cosp"


class WandB:
    """``place`` is a folder. A run that goes on gets a second folder of the same id; W&B joins them when it is sent."""

    def __init__(self, wanted: Wanted) -> None:
        os.environ.setdefault("WANDB_SILENT", "true")  # the terminal is the run's
        self._wandb = library(LIBRARY, EXTRA)
        self.run = wanted.run or secrets.token_hex(4)
        self._run: Any = self._wandb.init(
            project=PROJECT,
            name=wanted.name,
            id=self.run,
            dir=str(folder_of(wanted)),
            mode="offline",
            resume="allow" if wanted.run else None,
            config=dict(wanted.settings),
            settings=self._wandb.Settings(silent=True, console="off", save_code=False, disable_git=True,
                                          x_disable_stats=True, x_disable_machine_info=True),
        )  # fmt: skip

    def log(self, version: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=version)  # written once a later step comes: a step may get more until then

    def files(self, version: int, pictures: Mapping[str, Path], others: list[Path]) -> None:
        images = {f"figures/{name}": self._wandb.Image(str(path)) for name, path in pictures.items()}
        self._run.log(images, step=version)
        for path in others:
            self._run.save(str(path), base_path=str(path.parent), policy="now")

    def close(self, *, failed: bool) -> None:
        self._run.finish(exit_code=1 if failed else 0)
