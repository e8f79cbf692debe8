"""From raw samples to those that a model reads, without the data that it was trained on."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cosp.data import series
from cosp.data.raw_texts import RawTexts
from cosp.errors import UserError
from cosp.images.pixels import channels_first, normalise
from cosp.predict.opened import Opened

WHITE = 255.0
"""Of images in files."""


def prepared(model: Opened, x: Any, *, origin: str, from_files: bool = False) -> NDArray[Any]:
    """Return raw samples as the model reads them; UserError names ``origin`` if it reads none such.

    ``x``: images (N, H, W, C), those ``from_files`` with 8 bits a channel, series (N, T, C), texts, or word numbers.
    """
    reading, shape = model.facts.reading, model.facts.shape
    if isinstance(x, RawTexts):
        return _words(model, x, origin)
    x = np.asarray(x)
    own = shape.sample_shape
    wanted = (*own[1:], own[0]) if reading.kind == "images" else own
    if x.shape[1:] != wanted:
        raise UserError(
            f"{origin}: samples are of shape {x.shape[1:]}, the model reads {reading.kind} of {wanted}"
            + (" (height, width, channels)" if reading.kind == "images" else "")
        )
    if reading.kind == "texts":
        return _numbers(model, x, origin)
    mean, std = np.array(reading.mean), np.array(reading.std)
    if reading.kind == "series":
        return series.normalised(x, mean, std)
    pixels = channels_first(x)
    if from_files and reading.white not in (None, WHITE):
        pixels *= np.float32((reading.white or WHITE) / WHITE)
    return normalise(pixels, mean, std)


def _words(model: Opened, texts: RawTexts, origin: str) -> NDArray[Any]:
    if model.facts.reading.kind != "texts":
        raise UserError(f"{origin}: is text, and the model reads {model.facts.reading.kind}")
    if model.tokenizer is None:
        raise UserError(
            f"{origin}: is text, and {model.path} has no tokenizer: it learned from word numbers; give an .npz of them"
        )
    return model.tokenizer.encode(texts)


def _numbers(model: Opened, x: NDArray[Any], origin: str) -> NDArray[np.int32]:
    vocabulary = int(getattr(model.facts.shape, "vocabulary", 0))
    if x.dtype.kind not in "iu" or x.min() < 0 or x.max() >= vocabulary:
        raise UserError(f"{origin}: words must be whole numbers in 0..{vocabulary - 1}")
    return x.astype(np.int32)
