"""How texts become word numbers: whose tokenizer, how many words of each text."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cosp.data.raw_texts import RawTexts
from cosp.data.tokenizers import Tokenizer, check_fits, open_tokenizer, words_of
from cosp.data.wordpiece import train_tokenizer
from cosp.errors import ConfigError

VOCABULARY = 8192
TOKENS = 128


@dataclass(frozen=True, kw_only=True)
class CheckpointWords:
    """What a pretrained model brings: its folder, and how many words its table has if the folder says."""

    folder: Path
    table: int | None = None


@dataclass(frozen=True, kw_only=True)
class Wording:
    """``tokenizer`` None takes the checkpoint's own, or without one trains one of ``vocabulary`` words, by default
    8192; ``tokens`` words of each text are read, by default 128.
    """

    tokenizer: Path | None = None
    vocabulary: int | None = None
    tokens: int | None = None
    checkpoint: CheckpointWords | None = None

    def tokenizer_for(self, train: RawTexts) -> Tokenizer:
        """Return the tokenizer, which may be trained on ``train`` alone."""
        tokens, pairs = self.tokens or TOKENS, train.pair is not None
        path = self.tokenizer or (None if self.checkpoint is None else self.checkpoint.folder)
        if path is None:
            vocabulary = self.vocabulary or VOCABULARY
            return train_tokenizer(words_of(train), vocabulary=vocabulary, tokens=tokens, pairs=pairs)
        if self.vocabulary is not None:
            raise ConfigError(
                f"data.vocabulary: is for a tokenizer trained here, and {path} has one already: remove the key"
            )
        key = "data.tokenizer" if self.tokenizer else "model.pretrained"
        found = open_tokenizer(path, tokens=tokens, pairs=pairs, key=key)
        if self.checkpoint is not None and self.checkpoint.table is not None:
            check_fits(found, table=self.checkpoint.table, checkpoint=str(self.checkpoint.folder))
        return found

    def refuse(self, name: str, what: str) -> None:
        """ConfigError if the data set of that ``name``, which has ``what`` instead, is told how to cut texts."""
        for key in ("tokenizer", "vocabulary", "tokens"):
            if getattr(self, key) is not None:
                raise ConfigError(f"data.{key}: is for texts, {name} has {what}: remove the key")
