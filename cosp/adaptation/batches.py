"""Samples or tokens that came up, as what learns from them takes them: batches of one form."""

from __future__ import annotations

from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

import torch
from torch import Tensor

from cosp.adaptation.kept import Keep, Take, kept_array, taken_tensor


class Batch(NamedTuple):
    """What came up: samples (n, *sample_shape) as the model reads them, and labels (n,) if somebody gave them.

    Tokens came instead where ``after`` is not None: ``x`` (n, tokens, dim) is the stream behind that block, ``sizes``
    (n, tokens) how many tokens were merged into each.
    """

    x: Tensor
    y: Optional[Tensor] = None
    after: Optional[int] = None
    sizes: Optional[Tensor] = None

    def rows(self, chosen: Tensor) -> Batch:
        """Return some of them."""
        return Batch(*(part[chosen] if isinstance(part, Tensor) else part for part in self))  # type: ignore[arg-type]

    def state_of(self, keep: Keep) -> List[Any]:
        """Return it as JSON values."""
        return [keep(self.x.numpy()), kept_array(self.y, keep), self.after, kept_array(self.sizes, keep)]

    @staticmethod
    def of_state(state: Sequence[Any], take: Take) -> Batch:
        """Undo :meth:`state_of`."""
        x, y, after, sizes = state
        return Batch(torch.from_numpy(take(x).copy()), taken_tensor(y, take), after, taken_tensor(sizes, take))


def joined(batches: Sequence[Batch]) -> List[Batch]:
    """Return batches of one form each, those of the same form joined."""
    forms: Dict[Tuple[object, ...], List[Batch]] = {}
    for batch in batches:
        form = batch.after, batch.x.shape[1:], batch.y is None, batch.sizes is None
        forms.setdefault(form, []).append(batch)

    def together(parts: Sequence[Optional[Tensor]]) -> Optional[Tensor]:
        return torch.cat([part for part in parts if part is not None]) if parts[0] is not None else None

    return [
        Batch(
            x=torch.cat([each.x for each in alike]),
            y=together([each.y for each in alike]),
            after=alike[0].after,
            sizes=together([each.sizes for each in alike]),
        )
        for alike in forms.values()
    ]
