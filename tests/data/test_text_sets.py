"""AG News, SST-2 and 20 Newsgroups as they lie in the shared data folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_texts import SHARED, needs_shared_texts, reviews, write_rows

from cosp.data import Sizes, load_dataset
from cosp.data.columns import Columns
from cosp.data.images import Labelled, Source
from cosp.data.raw_texts import RawTexts
from cosp.data.sources import read_source
from cosp.data.wording import Wording
from cosp.errors import DataError


def read(name: str, data_dir: Path | None = SHARED, **columns) -> Source:
    return read_source(name, data_dir=data_dir, image_size=None, columns=Columns(**columns))


def texts(part: Labelled) -> list[str]:
    assert isinstance(part.x, RawTexts)
    return part.x.text.tolist()


def counts(source: Source, split: str) -> list[int]:
    return np.bincount(getattr(source, split).y).tolist()


@needs_shared_texts
def test_sst2_has_its_counts_and_its_words():
    source = read("sst2")
    assert source.classes == ("negative", "positive")
    assert counts(source, "train") == [29_780, 37_569]
    assert (counts(source, "validation"), counts(source, "test")) == ([428, 444], [912, 909])
    label = dict(zip(texts(source.train), source.train.y, strict=True))["hide new secretions from the parental units "]
    assert source.classes[label] == "negative"


@needs_shared_texts
def test_ag_news_is_the_description_alone():
    source = read("ag_news")
    assert source.classes == ("World", "Sports", "Business", "Sci/Tech")
    assert counts(source, "test") == [1900] * 4
    assert sum(counts(source, "train")) == 10_001
    assert source.test is not None
    label = dict(zip(texts(source.test), source.test.y, strict=True))
    found = next(text for text in label if text.startswith("Unions representing workers at Turner"))
    assert source.classes[label[found]] == "Business"


@needs_shared_texts
def test_ag_news_by_path_takes_names_of_columns_and_the_title():
    columns = {"names": ("label", "title", "description"), "text": "description", "text_pair": "title"}
    source = read("ag_news/test.csv.gz", **columns)
    assert source.classes == ("1", "2", "3", "4")
    assert isinstance(source.train.x, RawTexts)
    assert source.train.x.pair is not None
    assert "Fears for T N pension after talks" in source.train.x.pair.tolist()
    with pytest.raises(DataError, match="ag_news/train_10k.csv.gz: line 1 has no text in column 'title'"):
        read("ag_news", text="title")


@needs_shared_texts
def test_20newsgroups_has_subjects_and_bodies_without_other_headers():
    source = read("20newsgroups")
    assert (len(source.classes), source.classes[0], source.classes[-1]) == (20, "alt.atheism", "talk.religion.misc")
    assert source.test is not None
    assert (len(source.train), len(source.test)) == (11_314, 7_532)
    assert counts(source, "train")[:3] == [480, 584, 591]
    for part in (source.train, source.test):
        named = [text for text in texts(part) if "\nOrganization: " in text[:300] or text.startswith("From: ")]
        assert len(named) < 0.01 * len(part)  # quoted or forwarded ones
        assert sum("\n" in text for text in texts(part)) > 0.99 * len(part)
    whole = read("20newsgroups", strip="nothing")
    assert sum("From: " in text for text in texts(whole.train)) > 11_000


@needs_shared_texts
@pytest.mark.parametrize("name", ["sst2", "ag_news", "20newsgroups"])
def test_real_texts_become_words(name: str):
    sizes = Sizes(train=600, validation=100, test=100)
    dataset = load_dataset(name, data_dir=SHARED, sizes=sizes, wording=Wording(tokens=24, vocabulary=1500))
    assert (dataset.sample_shape, dataset.vocabulary, dataset.padding) == ((24,), 1500, 0)
    assert set(dataset.train.y.tolist()) == set(range(len(dataset.classes)))
    x = np.asarray(dataset.test.x)
    assert (x[:, 0] == 2).all()  # [CLS]
    assert 0.5 < (x != 0).mean() <= 1
    assert (x == 1).mean() < 0.01  # hardly any [UNK]


def test_a_set_that_is_not_there_says_what_was_looked_for(tmp_path: Path):
    with pytest.raises(DataError, match=r"sst2: looked for train.tsv and test.tsv .*not in .*--data-dir DIR.*hf:"):
        read("sst2", tmp_path)
    with pytest.raises(DataError, match="20newsgroups: looked for .*no data folder was given"):
        read("20newsgroups", None)


def test_a_label_that_the_set_does_not_have_is_named(tmp_path: Path):
    rows = [{"sentence": row["text"], "label": number} for number, row in enumerate(reviews(3))]
    for split in ("train", "test"):
        write_rows(tmp_path / "sst2" / f"{split}.tsv", rows)
    with pytest.raises(DataError, match=r"train\.tsv: line 4: label 2 is none of 0, 1"):
        read("sst2", tmp_path)
