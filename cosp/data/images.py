"""Samples with labels as a source gives them, checked once: the form that every reader of this package returns."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cosp.data.labels import check_labels
from cosp.errors import DataError

if TYPE_CHECKING:
    from cosp.data.image_files import ImageFiles
    from cosp.data.raw_texts import RawTexts

MOST_CHANNELS_FIRST = 4  # up to this many channels, (N, C, H, W) can be told from (N, H, W, C)
LARGEST_PIXEL = 1e30  # in float32, to be shifted and scaled without overflow


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """``x`` images (N, H, W, C) of any real dtype, in memory or in their files, texts, (N, T) of word numbers or (N,)
    of letters, or series (N, T, C) of any real dtype; ``y`` (N,) labels as the source has them, integers or texts;
    ``clients`` (N,) whose each is, if the source says so, integers or texts too; ``origin`` for messages.
    """

    x: NDArray[Any] | ImageFiles | RawTexts
    y: NDArray[Any]
    origin: str
    clients: NDArray[Any] | None = None

    def __len__(self) -> int:
        return len(self.y)

    def rows(self, rows: NDArray[np.int64]) -> Labelled:
        """The samples at ``rows``, in that order."""
        clients = None if self.clients is None else self.clients[rows]
        return replace(self, x=self.x[rows], y=self.y[rows], clients=clients)


@dataclass(frozen=True, kw_only=True)
class Source:
    """What a reader found: labels are indices into ``classes``; a split that it does not have of its own is None.

    ``resizable``: its images come as files, so ``data.image_size`` resizes them. ``notes`` tell a person, one line
    each, what was found and is not used, or is used otherwise than its name says. ``vocabulary``: how many words texts
    are made of, if the source says so. ``columns``: which of ``Columns`` the reader heeds.
    """

    name: str
    classes: tuple[str, ...]
    train: Labelled
    test: Labelled | None
    validation: Labelled | None = None
    vocabulary: int | None = None
    resizable: bool = False
    columns: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def checked_images(x: NDArray[Any], y: NDArray[Any], *, origin: str) -> Labelled:
    """Images and labels of ``origin``; DataError unless they are (N, H, W[, C]) finite numbers and N labels."""
    check_labels(y, origin=origin)
    if x.ndim not in (3, 4) or x.dtype.kind not in "buif":
        raise DataError(f"{origin}: images must be numbers of shape (N, H, W[, C]), got {x.dtype} of shape {x.shape}")
    if len(x) != len(y):
        raise DataError(f"{origin}: every image needs one label, got {len(x)} images and {len(y)} labels")
    if x.size == 0:
        raise DataError(f"{origin}: there must be at least one image of at least one pixel, got shape {x.shape}")
    if x.ndim == 3:
        x = x[..., np.newaxis]
    if x.shape[1] <= MOST_CHANNELS_FIRST < x.shape[3]:
        raise DataError(f"{origin}: images look channels first, shape {x.shape}; transpose them to (N, H, W, C)")
    low, high = float(x.min()), float(x.max())  # NaN if any is
    if not -LARGEST_PIXEL <= low <= high <= LARGEST_PIXEL:
        raise DataError(f"{origin}: pixels must lie in {-LARGEST_PIXEL}..{LARGEST_PIXEL}, got {low}..{high}")
    return Labelled(x=x, y=y, origin=origin)
