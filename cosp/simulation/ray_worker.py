"""One actor of a Ray cluster: the trainer, with the run's data in its node's object store. No driver's code is here."""

from __future__ import annotations

import json
import platform
import traceback
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
from torch import Tensor

import cosp
from cosp.run.pool import DEATHS
from cosp.simulation.worker import keep_freed_memory, no_memory
from cosp.task.cut import weights_of
from cosp.task.serial import task_from_json
from cosp.task.task import Task
from cosp.trainer.samples import Samples
from cosp.trainer.store import ClientStore, Rows
from cosp.trainer.trainer import Trainer

Numbers = dict[str, np.ndarray] | np.ndarray
"""A model by tensors, or weights end to end: what a ``Source`` is on its way."""

Answer = tuple[str, np.ndarray | str]
"""Facts as JSON and the vector that a task found; or "" and its traceback, "no memory" and a line, or "killed"."""


@dataclass(frozen=True)
class RunData:
    """What all tasks of a run are done on."""

    splits: Mapping[str, Samples]
    rows: Sequence[Rows]
    """Each client's rows of the split "train"."""


def software() -> dict[str, str]:
    """Return what the bits of a result depend on beside the processor."""
    return {
        "cosp": cosp.__version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


class Deaths:
    """Counts, for all actors, the tasks that were given to successors of actors that died over them.

    Ray's own count of tries is no measure of that: it uses up three as soon as a lost node refuses connections.
    """

    def __init__(self) -> None:
        self._deaths: Counter[str] = Counter()

    def over(self, task_id: str) -> int:
        """Note that an actor died over the task; return how many have by now."""
        self._deaths[task_id] += 1
        return self._deaths[task_id]


class RayWorker:
    """Does one task at a time, on one thread."""

    def __init__(self, device: str, deaths: Any) -> None:
        """``deaths`` is the handle of the run's Deaths."""
        self._deaths, self._fresh = deaths, True
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")  # nobody writes to it
        torch.set_num_threads(1)
        torch.set_flush_denormal(True)
        keep_freed_memory()
        self._device = device
        self._data: RunData | None = None

    def _open(self, data: Sequence[Any]) -> RunData:
        """Return what the one reference in ``data`` is to, fetched at the first time.

        It comes with every call, not as the actor starts: one that starts again, long after, must find it too.
        """
        if self._data is None:
            self._data = ray.get(data[0])
            clients = ClientStore(self._data.splits["train"], self._data.rows)
            self._trainer = Trainer(clients, self._data.splits, device=self._device)
        return self._data

    def software(self) -> dict[str, str]:
        return software()

    def missing(self, data: Sequence[Any]) -> str:
        """Return a file of the data that this node does not see, "" if it sees them."""
        for samples in self._open(data).splits.values():
            paths: Sequence[Path] = getattr(samples.x, "paths", ())
            if len(paths):
                for path in (paths[0], paths[-1]):
                    if not path.exists():
                        return str(path)
        return ""

    def run(self, text: str, source: Numbers, data: Sequence[Any]) -> Answer:
        """Do a task, given as JSON, on weights that it cuts out of ``source``."""
        if self._has_killed():
            return "killed", ""
        self._open(data)
        task = task_from_json(text)
        try:
            facts, vector = self._trainer.run(task, _weights(task, source))
            return json.dumps(facts), vector.numpy()
        except torch.cuda.OutOfMemoryError:
            return "no memory", no_memory(self._trainer, task)
        except Exception:  # whatever a task raises is that task's result
            return "", traceback.format_exc()

    def _has_killed(self) -> bool:
        """Say whether too many actors died over the task at hand: it is a successor's first."""
        fresh, self._fresh = self._fresh, False
        context = ray.get_runtime_context()
        if not (fresh and context.was_current_actor_reconstructed):
            return False
        return int(ray.get(self._deaths.over.remote(context.get_task_id()))) >= DEATHS


def _weights(task: Task, source: Numbers) -> Tensor:
    if isinstance(source, np.ndarray):
        return torch.from_numpy(source)
    return weights_of(task, {name: torch.from_numpy(numbers) for name, numbers in source.items()})
