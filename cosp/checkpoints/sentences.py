"""What sentence-transformers puts behind a model of words: how they are pooled, and perhaps a linear layer.

``modules.json`` lists the steps, each with a folder of its own. A classifier that reads the mean of all words can only
be written so: transformers itself has none.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cosp.checkpoints.families import Family
from cosp.checkpoints.tensors import NAMES, Tensors, open_tensors
from cosp.errors import ConfigError

STEPS, POOLING, DENSE = "modules.json", "1_Pooling", "2_Dense"
LINEAR = "linear"
"""What the layer's tensors are called in its own file."""
PLAIN = "torch.nn.modules.linear.Identity"


def is_averaged(folder: Path) -> bool:
    """Tell whether the model was made to be read by the mean of its words."""
    path = folder / POOLING / "config.json"
    if not path.is_file():
        return False
    found = read_json(path)
    return bool(found.get("pooling_mode_mean_tokens")) or found.get("pooling_mode") in ("mean", ["mean"])


def with_head(folder: Path, tensors: Tensors, family: Family) -> Tensors:
    """Return the tensors and, as the family's head, the linear layer behind the pooling if there is one.

    A layer with an activation makes vectors, not logits: it is left aside.
    """
    path = folder / DENSE / "config.json"
    if not path.is_file() or read_json(path).get("activation_function") != PLAIN:
        return tensors
    try:
        layer = open_tensors(next(folder / DENSE / name for name in NAMES if (folder / DENSE / name).is_file()))
    except StopIteration:
        raise ConfigError(f"{folder / DENSE}: holds no weights: there must be one of {', '.join(NAMES)}") from None
    inside = {f"{family.head}.{name.removeprefix(f'{LINEAR}.')}": name for name in layer.shapes}
    shapes = {new: layer.shapes[name] for new, name in inside.items()}
    return Tensors(
        tensors.path,
        {**tensors.shapes, **shapes},
        lambda name: layer[inside[name]] if name in inside else tensors[name],
    )


def steps() -> list[dict[str, Any]]:
    """Return ``modules.json`` of words, their mean, and a linear layer."""
    kinds = (("", "Transformer"), (POOLING, "Pooling"), (DENSE, "Dense"))
    return [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(kinds)
    ]


def read_json(path: Path) -> dict[str, Any]:
    """Return a mapping; ConfigError if the file holds none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}); a model's folder holds its settings there") from None
    if not isinstance(found, dict):
        raise ConfigError(f"{path}: must hold a mapping, got {type(found).__name__}")
    return found
