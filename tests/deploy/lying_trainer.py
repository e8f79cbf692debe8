"""A board's trainer that lies: its first update is a thousand times too large, later ones claim a billion samples."""

from __future__ import annotations

import sys
from typing import Any

from torch import Tensor

from cosp.task.task import Task
from cosp.trainer import __main__ as command
from cosp.trainer import trainer

honest = trainer.Trainer._train
told = 0


def lie(self: trainer.Trainer, task: Task, model: Any, received: Tensor) -> trainer.Result:
    global told
    facts, change = honest(self, task, model, received)
    told += 1
    return (facts, 1000 * change) if told == 1 else ({**facts, "samples": 10**9}, change)


trainer.Trainer._train = lie  # type: ignore[method-assign]
sys.exit(command.main())
