"""Texts that are still letters: the form they have between their file and the tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class RawTexts:
    """``text`` (N,) of strings, ``pair`` (N,) their second texts, which may be empty; a column of samples like others.

    Indexing by rows gives the texts at those rows.
    """

    text: NDArray[np.object_]
    pair: NDArray[np.object_] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.text.shape

    @property
    def ndim(self) -> int:
        return self.text.ndim

    def __len__(self) -> int:
        return len(self.text)

    def __getitem__(self, rows: Any) -> RawTexts:
        return RawTexts(text=self.text[rows], pair=None if self.pair is None else self.pair[rows])


def raw_texts(text: Sequence[str], pair: Sequence[str] | None = None) -> RawTexts:
    """Return the texts of a list, and their second ones if there are any."""
    return RawTexts(text=np.array(text, object), pair=None if pair is None else np.array(pair, object))
