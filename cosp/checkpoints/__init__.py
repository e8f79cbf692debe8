"""Pretrained models of other libraries: what their files hold, read as ours. Nothing that a file says is executed."""

from __future__ import annotations

from cosp.checkpoints.architecture import Architecture, Words
from cosp.checkpoints.checkpoint import Checkpoint, open_checkpoint
from cosp.checkpoints.imported import Imported, import_state

__all__ = ["Architecture", "Checkpoint", "Imported", "Words", "import_state", "open_checkpoint"]
