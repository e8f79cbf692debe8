"""Where a simulated stream stands: its checkpoint is made of it, and put back into it."""

from __future__ import annotations

from collections.abc import Mapping

from cosp.adaptation.acknowledged import Acknowledged
from cosp.run.directory import RunDirectory
from cosp.run.saved import settings_of
from cosp.stream import checkpoint as checkpoints
from cosp.stream.checkpoint import Arrays, Checkpoint
from cosp.stream.loop import Loop
from cosp.stream.server import AdaptingServer
from cosp.stream.settings import AdaptConfig
from cosp.stream.uploads import Uploads
from cosp.submodel.slicing import State


class Standing:
    """Of the stream that ``config`` asks for, on the trained ``model``; its loop is given with each call."""

    def __init__(
        self,
        directory: RunDirectory,
        config: AdaptConfig,
        model: State,
        *,
        server: AdaptingServer,
        known: Mapping[int, Acknowledged],
        uploads: Uploads,
    ) -> None:
        self._directory, self._config = directory, config
        self._server, self._uploads = server, uploads
        self._known = list(dict.fromkeys(known.values()))  # boards of one submodel share one
        self._arrays = Arrays(directory.checkpoints / "arrays")
        self._checksum = checkpoints.checksum(model)

    def save(self, loop: Loop) -> None:
        """Write a checkpoint, if one is due."""
        if loop.window % self._config.checkpoint_every:
            return
        keep = self._arrays.keep
        with self._directory.writing():
            facts = {
                "rows_bytes": self._directory.rows_bytes(),
                "config": settings_of(self._config),
                "model": self._checksum,
                "loop": loop.state(keep),
                "server": self._server.state(keep),
                "known": [known.state(keep) for known in self._known],
                "uploads": self._uploads.state(),
            }
            checkpoints.save(self._directory.checkpoints, loop.window, facts, self._arrays)

    def restore(self, saved: Checkpoint, loop: Loop) -> None:
        """Put everything where ``saved`` left it; UserError if that is damaged."""
        with saved.in_use():
            take = self._arrays.take
            loop.restore(saved.facts["loop"], take)
            self._server.restore(saved.facts["server"], take)
            self._uploads.restore(saved.facts["uploads"])
            for known, state in zip(self._known, saved.facts["known"], strict=True):
                known.restore(state, take)
