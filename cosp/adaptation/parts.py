"""Parts of a model that are adapted, and sent, after deployment.

===============  =======================================================
``norms``        weights and biases of all LayerNorms (Tent, CEMA)
``biases``       every other bias
``heads``        the exits' classifiers
``adapters``     those of a model that has any
``all``          everything
===============  =======================================================
"""

from __future__ import annotations

from typing import Dict, Optional, Sequence, Tuple

import numpy as np

from cosp.submodel.flat import Spans
from cosp.submodel.layout import Layout, ParameterLayout

PARTS = ("norms", "biases", "heads", "adapters", "all")


def check_parts(parts: Sequence[str]) -> Tuple[str, ...]:
    """Return ``parts`` as a tuple; ``ValueError`` if one is unknown, or there is none."""
    unknown = [part for part in parts if part not in PARTS]
    if unknown or not parts:
        raise ValueError(f"parts must name some of {', '.join(PARTS)}, got {unknown[0] if unknown else 'none'!r}")
    return tuple(parts)


def names_of(layout: Layout, parts: Sequence[str]) -> Tuple[str, ...]:
    """Return the names of the parameters of ``parts``, in the layout's order; ``ValueError`` if there are none."""
    found = tuple(name for name, entry in layout.items() if any(_is_of(part, name, entry) for part in parts))
    if not found:
        raise ValueError(f"the model has no {', '.join(parts)}")
    return found


def marked_entries(spans: Spans, names: Sequence[str]) -> np.ndarray:
    """Return a boolean vector over a submodel's weights, end to end, true in the tensors of ``names`` that it holds."""
    marked = np.zeros(max((span.stop for span in spans.values()), default=0), dtype=bool)
    for name in names:
        if name in spans:
            marked[spans[name].start : spans[name].stop] = True
    return marked


def _is_of(part: str, name: str, entry: ParameterLayout) -> bool:
    bias, head = name.endswith("bias"), entry.exit_after is not None and not entry.norm
    tells: Dict[str, Optional[bool]] = {
        "norms": entry.norm,
        "biases": bias and not entry.norm,
        "heads": head,
        "adapters": entry.adapter,
        "all": True,
    }
    return bool(tells[part])
