"""Images for the transformer: cut into patches, each a token (Dosovitskiy et al. 2021, arXiv:2010.11929)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Optional, Tuple

from cosp.submodel.adapters import Adapters
from cosp.submodel.layout import Layout, whole
from cosp.submodel.shape import FRESH, TransformerShape, Trunk

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class ViTShape(TransformerShape):
    """What fixes a vision transformer on square images of side ``image``."""

    image: int
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
    """As strong as the embedded patches of normalised images. At the usual 0.02 a model this small needs about half as
    many epochs again to find out where its patches lie."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.image % self.patch:
            raise ValueError(f"patch must divide image, got patch {self.patch}, image {self.image}")

    @property
    def input_tokens(self) -> int:
        return (self.image // self.patch) ** 2

    @property
    def sample_shape(self) -> Tuple[int, ...]:
        return self.channels, self.image, self.image

    @property
    def patch_entries(self) -> int:
        return self.channels * self.patch**2

    @property
    def input_macs(self) -> int:
        return self.input_tokens * self.patch_entries * self.dim

    def inputs(self) -> nn.Module:
        from cosp.models.inputs import Patches

        return Patches(self.patch, self.patch_entries, self.dim)

    def inputs_layout(self) -> Layout:
        return {"weight": whole(self.dim, self.patch_entries), "bias": whole(self.dim)}
