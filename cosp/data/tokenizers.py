"""Tokenizers: from a text to word numbers of one length, cut or filled up with a padding word.

A tokenizer is a ``tokenizer.json`` of the library ``tokenizers`` (the extra ``text``), a checkpoint's own or the
user's; or it is trained here, see ``wordpiece.py``. What is cut and filled up stands in the file that is written: who
reads it gets the same numbers.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cosp.data.raw_texts import RawTexts
from cosp.errors import ConfigError, DataError, UserError
from cosp.images.faults import first_line

FILE = "tokenizer.json"
PADDING_WORDS = ("[PAD]", "<pad>", "<|pad|>", "<|padding|>")
LETTERS_A_WORD = 8
"""Of a long text so many letters for each word that is read are cut into words at first, all only if they do not do."""
BATCH = 4096  # texts cut into words at a time


@dataclass(frozen=True)
class Tokenizer:
    """``text``: a ``tokenizer.json`` that cuts and fills up to a length."""

    text: str = field(repr=False)

    @cached_property
    def padding(self) -> int:
        """The number of the word that fills texts up."""
        return int(json.loads(self.text)["padding"]["pad_id"])

    @cached_property
    def length(self) -> int:
        """How many words every text has."""
        return int(json.loads(self.text)["truncation"]["max_length"])

    @cached_property
    def unknown(self) -> int | None:
        """The number of the word that stands for those that are in no table, None if there is none."""
        word = getattr(self._library.model, "unk_token", None)
        return None if word is None else self._library.token_to_id(word)

    @cached_property
    def special(self) -> tuple[int, ...]:
        """The numbers of all words that stand for no letters of a text, ascending: padding and unknown among them."""
        added = {int(word["id"]) for word in json.loads(self.text).get("added_tokens", ()) if word.get("special")}
        return tuple(sorted({*added, self.padding, *(() if self.unknown is None else (self.unknown,))}))

    @cached_property
    def words(self) -> int:
        """One more than the highest number of a word."""
        return 1 + max(map(int, self._library.get_vocab(with_added_tokens=True).values()))

    @cached_property
    def _library(self) -> Any:
        return library().Tokenizer.from_str(self.text)

    def encode(self, texts: RawTexts) -> NDArray[np.int32]:
        """Return the words (N, T) of texts. A second text follows the first behind the tokenizer's separator."""
        x = np.full((len(texts), self.length), self.padding, np.int32)
        for first in range(0, len(texts), BATCH):
            rows = slice(first, first + BATCH)
            x[rows] = self._numbers(texts[rows])
        return x

    def _numbers(self, texts: RawTexts) -> NDArray[np.int32]:
        if texts.pair is not None:
            return _ids(self._library.encode_batch_fast(list(zip(texts.text, texts.pair, strict=True))))
        most = LETTERS_A_WORD * self.length
        cut = [beginning(text, most) for text in texts.text]
        ids = _ids(self._library.encode_batch_fast(cut))
        whole = [
            row for row, text in enumerate(texts.text) if len(cut[row]) < len(text) and ids[row, -1] == self.padding
        ]
        if whole:
            ids[whole] = _ids(self._library.encode_batch_fast([texts.text[row] for row in whole]))
        return ids


def open_tokenizer(path: Path, *, tokens: int, pairs: bool, key: str = "data.tokenizer") -> Tokenizer:
    """Read a ``tokenizer.json``, or that of a folder, to cut texts at ``tokens`` words; errors name ``key``."""
    file = path / FILE if path.is_dir() else path
    if not file.is_file():
        raise DataError(f"{key}: {file}: is no file; give data.tokenizer a {FILE}, or a folder with one")
    try:
        found = library().Tokenizer.from_str(file.read_text(encoding="utf-8"))
    except UserError:
        raise
    except Exception as error:  # the library raises Exception itself
        raise DataError(f"{key}: {file}: cannot be read as a {FILE} ({first_line(error)})") from error
    return fitted(found, tokens=tokens, pairs=pairs, origin=str(file))


def fitted(found: Any, *, tokens: int, pairs: bool, origin: str) -> Tokenizer:
    """Return what the library's tokenizer is, made to cut texts at ``tokens`` words and to fill them up at the end."""
    padding = _padding_word(found)
    if padding is None:
        raise DataError(
            f"data.tokenizer: {origin} has no word to fill texts up with, none of {', '.join(PADDING_WORDS)}; add one"
        )
    least = found.num_special_tokens_to_add(pairs) + 1 + pairs
    if tokens < least:
        raise ConfigError(
            f"data.tokens: must be at least {least}: {origin} adds {least - 1 - pairs} words of its own; got {tokens}"
        )
    found.enable_truncation(tokens)
    found.enable_padding(length=tokens, pad_id=found.token_to_id(padding), pad_token=padding)
    return Tokenizer(found.to_str())


def check_fits(tokenizer: Tokenizer, *, table: int, checkpoint: str) -> None:
    """DataError if the tokenizer has words that a checkpoint's table of ``table`` words has no row for."""
    if tokenizer.words > table:
        raise DataError(
            f"data.tokenizer: has {tokenizer.words} words, {checkpoint} a table of {table}; leave the key out to take "
            "the checkpoint's own"
        )


def beginning(text: str, letters: int) -> str:
    """Return the words that begin in the first ``letters`` of ``text``, whole; all of it if it is not much longer."""
    if len(text) <= letters:
        return text
    end = next((place for place in range(letters, len(text)) if text[place].isspace()), len(text))
    return text[:end]


def library() -> Any:
    """Return the module ``tokenizers``; UserError if it is not installed."""
    # Processes, not threads, use the cores here; the library would also warn of every fork that follows.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        import tokenizers
    except ImportError:
        raise UserError("texts are cut into words by the library tokenizers: pip install 'cosp[text]'") from None
    return tokenizers


def _padding_word(found: Any) -> str | None:
    """The word that the file says fills up, else one that is called so."""
    said = [found.padding["pad_token"]] if found.padding else []
    return next((word for word in (*said, *PADDING_WORDS) if found.token_to_id(word) is not None), None)


def _ids(encodings: Sequence[Any]) -> NDArray[np.int32]:
    return np.array([encoding.ids for encoding in encodings], np.int32)


def words_of(texts: RawTexts) -> Iterator[str]:
    """Yield all texts, second ones too, that have any letters."""
    yield from texts.text
    yield from filter(None, () if texts.pair is None else texts.pair)
