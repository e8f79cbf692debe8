"""A WordPiece tokenizer trained on the texts at hand (Devlin et al. 2019, arXiv:1810.04805; the library's trainer).

The same texts give the same tokenizer, byte for byte, in every process. The library's own trainer does not promise
that: it numbers the letters inside words as it comes across them, in the order of a hash table with a random seed, and
breaks ties by those numbers. So the letters are given to it beforehand, in the order of their codes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from cosp.data.tokenizers import LETTERS_A_WORD, Tokenizer, beginning, fitted, library
from cosp.errors import ConfigError

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
MOST_LETTERS = 1000  # different ones, the most frequent; a word with another is [UNK]
LEAST_PAIRS = 2  # letters that stand together only once are no piece of a word


def train_tokenizer(texts: Iterable[str], *, vocabulary: int, tokens: int, pairs: bool) -> Tokenizer:
    """Return a tokenizer of at most ``vocabulary`` words for texts of ``tokens`` words, all lower case.

    Of long texts only the beginning counts that will be read.
    """
    normalizer = library().normalizers.BertNormalizer()
    read = [normalizer.normalize_str(beginning(text, LETTERS_A_WORD * tokens)) for text in texts]
    pieces = _pieces(read, vocabulary)
    found = _untrained(pieces)
    found.normalizer = normalizer
    found.post_processor = library().processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(word, pieces[word]) for word in ("[CLS]", "[SEP]")],
    )
    found.decoder = library().decoders.WordPiece()
    found.add_special_tokens(list(SPECIAL))
    return fitted(found, tokens=tokens, pairs=pairs, origin="the tokenizer trained here")


def _pieces(texts: list[str], vocabulary: int) -> dict[str, int]:
    """Special words, letters inside words, letters at their beginning, then the pieces that occur most."""
    counts = Counter[str]()
    for text in texts:
        counts.update(text)
    letters = sorted(
        (letter for letter in counts if not letter.isspace()), key=lambda letter: (-counts[letter], letter)
    )
    inner = [f"##{letter}" for letter in sorted(letters[:MOST_LETTERS])]
    least = len(SPECIAL) + 2 * len(inner)
    if vocabulary < least:
        raise ConfigError(
            f"data.vocabulary: must be at least {least}, which letters and special words alone take; got {vocabulary}"
        )
    rare = str.maketrans(dict.fromkeys(letters[MOST_LETTERS:], " "))
    trainer = library().trainers.WordPieceTrainer(
        vocab_size=vocabulary,
        min_frequency=LEAST_PAIRS,
        special_tokens=[*SPECIAL, *inner],
        show_progress=False,
    )
    trained = _untrained({word: number for number, word in enumerate(SPECIAL)})
    trained.train_from_iterator((text.translate(rare) for text in texts), trainer=trainer)
    return dict(trained.get_vocab(with_added_tokens=True))


def _untrained(pieces: dict[str, int]) -> Any:
    found = library().Tokenizer(library().models.WordPiece(pieces, unk_token="[UNK]"))
    found.pre_tokenizer = library().pre_tokenizers.BertPreTokenizer()
    return found
