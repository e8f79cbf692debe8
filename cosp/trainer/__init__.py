"""What does a task: local training, scoring, judging; and the process on a board that keeps it warm."""

from __future__ import annotations
