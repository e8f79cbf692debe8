"""What makes tokens of images and of series; apart from the shapes, which a plan needs and which need no torch."""

from __future__ import annotations

from torch import Tensor

from cosp.models.halves import Linear


class Patches(Linear):
    """Cuts images (batch, C, H, W) into patches, row by row, and embeds each: (batch, patches, dim)."""

    def __init__(self, patch: int, entries: int, dim: int) -> None:
        super().__init__(entries, dim)
        self.patch = patch

    def forward(self, images: Tensor) -> Tensor:
        batch, channels, height, width = images.shape
        p = self.patch
        cut = images.reshape(batch, channels, height // p, p, width // p, p).permute(0, 2, 4, 1, 3, 5)
        return super().forward(cut.reshape(batch, -1, self.in_features))


class Stretches(Linear):
    """Embeds the patches of series (batch, T, C), which lie one after the other: (batch, patches, dim)."""

    def forward(self, series: Tensor) -> Tensor:
        return super().forward(series.reshape(series.shape[0], -1, self.in_features))
