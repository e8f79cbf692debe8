"""Series for the transformer: measured values along time, cut into patches of several steps, each a token.

As PatchTST (Nie et al. 2023, arXiv:2211.14730) but for one thing: a token holds all channels of its steps, as a patch
of an image does, where PatchTST feeds each channel to the model by itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Optional, Tuple

from cosp.submodel.adapters import Adapters
from cosp.submodel.layout import Layout, whole
from cosp.submodel.shape import FRESH, TransformerShape, Trunk

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class SeriesShape(TransformerShape):
    """What fixes a transformer on series of ``steps`` steps, ``channels`` values each; ``patch`` steps are a token."""

    steps: int
    patch: int
    channels: int
    classes: int
    dim: int
    blocks: int
    heads: int
    hidden: int
    exits: Tuple[int, ...]
    pooling: str = "mean"
    variant: str = "plain"
    trunk: Trunk = FRESH
    adapters: Optional[Adapters] = None

    position_deviation: ClassVar[float] = 0.5
    """As an image's: when something happens is told from the first step on."""

    cut_in_place: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps % self.patch:
            raise ValueError(f"patch must divide the steps of a series, got patch {self.patch}, {self.steps} steps")

    @property
    def input_tokens(self) -> int:
        return self.steps // self.patch

    @property
    def sample_shape(self) -> Tuple[int, ...]:
        return self.steps, self.channels

    @property
    def patch_entries(self) -> int:
        return self.patch * self.channels

    @property
    def input_macs(self) -> int:
        return self.input_tokens * self.patch_entries * self.dim

    def inputs(self) -> nn.Module:
        from cosp.models.inputs import Stretches

        return Stretches(self.patch_entries, self.dim)

    def inputs_layout(self) -> Layout:
        return {"weight": whole(self.dim, self.patch_entries), "bias": whole(self.dim)}
