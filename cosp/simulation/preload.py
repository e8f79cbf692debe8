"""What the common parent of all workers loads, once for them all."""

from __future__ import annotations

import torch

import cosp.simulation.worker  # noqa: F401

torch.optim.AdamW([torch.zeros(1)])  # with its first optimizer torch imports its compiler, which takes a second
