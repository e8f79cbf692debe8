"""How what has a state puts its arrays away for a checkpoint, and takes them back: by name, as JSON holds no arrays."""

from __future__ import annotations

from typing import Any, Callable, Dict, Mapping, Optional

import numpy as np
import torch
from torch import Tensor

Keep = Callable[[np.ndarray], str]
"""Puts an array away and returns its name."""
Take = Callable[[str], np.ndarray]
"""Returns the array of a name; nobody may write to it."""


def kept_tensors(tensors: Mapping[str, Tensor], keep: Keep) -> Dict[str, str]:
    """Return the names of tensors, by their own."""
    return {name: keep(tensor.detach().numpy()) for name, tensor in tensors.items()}


def taken_tensors(names: Mapping[str, str], take: Take) -> Dict[str, Tensor]:
    """Undo :func:`kept_tensors`; each is a copy."""
    return {name: torch.from_numpy(take(key).copy()) for name, key in names.items()}


def kept_array(array: Optional[Any], keep: Keep) -> Optional[str]:
    """Return the name of an array or a tensor that may not be there."""
    return None if array is None else keep(np.asarray(array))


def taken_tensor(key: Optional[str], take: Take) -> Optional[Tensor]:
    """Undo :func:`kept_array` of a tensor."""
    return None if key is None else torch.from_numpy(take(key).copy())
