"""The kinds of samples: images, texts and series, told apart by the shape of one."""

from __future__ import annotations

from typing import Literal

from cosp.errors import DataError

SampleKind = Literal["images", "texts", "series"]
KINDS: dict[int, SampleKind] = {3: "images", 2: "series", 1: "texts", 0: "texts"}
"""By how many dimensions a sample has, as readers give it and as a model reads it; texts of letters have none."""


def kind_of(shape: tuple[int, ...]) -> SampleKind:
    """Return what a sample of ``shape`` is: (H, W, C) or (C, H, W) of an image, (T, C) of a series, (T,) of a text."""
    return KINDS[len(shape)]


def shown(shape: tuple[int, ...]) -> str:
    """Return a sample's shape for a message, with what it is a shape of."""
    return f"{kind_of(shape)} {shape}"


def check_kind(shape: tuple[int, ...], asked: SampleKind | None, *, origin: str) -> None:
    """DataError if samples of ``shape`` are not of the kind that was asked for."""
    found = kind_of(shape)
    if asked is not None and asked != found:
        raise DataError(
            f"{origin}: data.kind is {asked}, but these are {found}; remove the key, or give {asked} "
            "(series come as .npz, x of numbers (N, T[, C]))"
        )
