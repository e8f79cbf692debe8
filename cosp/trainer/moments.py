"""Sums a client's features to second order; what for stands in :mod:`cosp.task.moments`."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from cosp.models.flat import FlatModel
from cosp.task.moments import to_vector
from cosp.trainer.samples import Samples
from cosp.trainer.training import evaluation_batches


@torch.no_grad()
def sum_moments(model: FlatModel, samples: Samples, batch: int) -> Tensor:
    """Return the sums of all ``samples``, read ``batch`` at a time, for every exit that ``model`` has."""
    shape, device = model.module.shape, model.weights.device
    read = shape.dim + 1
    squares = torch.zeros(len(model.module.exits), read, read, dtype=torch.float64, device=device)
    classes = torch.zeros(len(model.module.exits), read, shape.classes, dtype=torch.float64, device=device)
    for x, y in evaluation_batches(samples, batch):
        marked = F.one_hot(y.to(device), shape.classes).float()
        for i, features in enumerate(model.module.features_in_turn(x.to(device))):
            z = F.pad(features, (0, 1), value=1.0)
            squares[i] += z.T @ z  # float32 over a batch, float64 over batches
            classes[i] += z.T @ marked
    return to_vector(list(zip(squares, classes)))
