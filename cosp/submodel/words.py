"""Words as units: which rows of the word table some texts look up, and the texts in the numbers of those rows.

A row that no text of a client's names has no gradient there, so a client that holds its own rows alone trains them to
the same bits as one that holds the whole table (``docs/models.md`` says what weight decay does).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Iterable, Optional

import numpy as np

from cosp.submodel.plan import Units


def words_in(texts: Iterable[Any]) -> Units:
    """Return the words that occur in ``texts``, arrays of their numbers, ascending."""
    found = [np.unique(np.asarray(some)) for some in texts]
    return tuple(np.unique(np.concatenate(found)).tolist())


def joined(words: Units, others: Iterable[int]) -> Units:
    """Return all of both, ascending."""
    return tuple(sorted({*words, *others}))


def recoded(texts: Any, words: Units, unknown: Optional[int] = None) -> np.ndarray:
    """Return ``texts`` with each word's place among ``words`` in its stead; ``unknown`` is the place that stands for
    words that are not there. ``ValueError`` if there is none and it is needed.
    """
    x, held = np.asarray(texts), _as_array(words)
    places = np.searchsorted(held, x).clip(max=len(held) - 1)
    missing = held[places] != x
    if missing.any():
        if unknown is None:
            raise ValueError(
                f"word {x[missing][0]} is none of the {len(words)} that this board introduced itself with, and the "
                "tokenizer has no word for unknown ones; start the board's node anew after its data have changed"
            )
        places[missing] = unknown
    return places.astype(x.dtype)


@lru_cache(maxsize=64)  # a client's are the same at every task
def _as_array(words: Units) -> np.ndarray:
    return np.array(words, dtype=np.int64)
