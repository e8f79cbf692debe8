"""From columns to samples: which text, which class, whose; and which row is to be mended."""

from __future__ import annotations

from pathlib import Path

import datasets
import numpy as np
import pytest
from small_texts import reviews, write_rows

from cosp.data import Sizes, load_dataset
from cosp.data.columns import Columns
from cosp.data.images import Source
from cosp.data.posts import subject_and_body
from cosp.data.raw_texts import RawTexts
from cosp.data.sources import read_source
from cosp.errors import DataError


def read(path: Path, **columns) -> Source:
    return read_source(str(path), data_dir=None, image_size=None, columns=Columns(**columns))


def pairs(source: Source, split: str = "train") -> list[tuple[str, str]]:
    """Return text and class of each sample, sorted."""
    part = getattr(source, split)
    assert isinstance(part.x, RawTexts)
    return sorted((text, source.classes[label]) for text, label in zip(part.x.text, part.y, strict=True))


def labels(path: Path, *values: object) -> Path:
    return write_rows(path, [{"text": f"text {value}", "label": value} for value in values])


def test_each_text_keeps_its_label(tmp_path: Path):
    source = read(write_rows(tmp_path / "films.csv", reviews(9)))
    assert pairs(source) == sorted((row["text"], row["label"]) for row in reviews(9))
    assert (source.name, source.classes) == ("films", ("blame", "praise"))


def test_numbers_are_classes_in_rising_order_names_in_that_of_their_letters(tmp_path: Path):
    assert read(labels(tmp_path / "a.csv", 10, 9, -1)).classes == ("-1", "9", "10")
    assert read(labels(tmp_path / "b.csv", "b", "10", "9")).classes == ("10", "9", "b")
    assert read(labels(tmp_path / "c.parquet", 10.0, 9.0)).classes == ("9", "10")
    assert read(labels(tmp_path / "d.jsonl", True, False)).classes == ("False", "True")


def test_a_number_written_two_ways_is_one_class_unless_others_are_names(tmp_path: Path):
    assert read(labels(tmp_path / "a.csv", "1", "01", "2")).classes == ("1", "2")
    assert read(labels(tmp_path / "b.csv", "1", "01", "x")).classes == ("01", "1", "x")


def test_splits_of_a_folder_train_choose_and_test(tmp_path: Path):
    for split, count in (("train", 8), ("dev", 4), ("test", 6)):
        write_rows(tmp_path / "films" / f"{split}.tsv.gz", reviews(count))
    dataset = load_dataset("films", data_dir=tmp_path)
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (8, 4, 6)


def test_rows_are_shuffled_once_for_all(tmp_path: Path):
    rows = sorted(reviews(40), key=lambda row: row["label"])
    first, again = (read(write_rows(tmp_path / f"{name}.csv", rows)).train.y for name in "ab")
    assert first.tolist() == again.tolist()
    assert 0 < first[:20].sum() < 20


def test_columns_may_be_called_anything(tmp_path: Path):
    rows = [{"premise": f"p{n}", "hypothesis": "" if n else "h", "gold": n % 2} for n in range(4)]
    source = read(write_rows(tmp_path / "a.jsonl", rows), text="premise", text_pair="hypothesis", label="gold")
    assert isinstance(source.train.x, RawTexts)
    assert source.train.x.pair is not None
    found = dict(zip(source.train.x.text, source.train.x.pair, strict=True))
    assert found == {"p0": "h", "p1": "", "p2": "", "p3": ""}


def test_a_column_says_whose_a_text_is(tmp_path: Path):
    rows = [row | {"user": f"u{n % 3}"} for n, row in enumerate(reviews(9))]
    write_rows(tmp_path / "a" / "train.csv", rows)
    write_rows(tmp_path / "a" / "test.csv", reviews(4))
    train = read(tmp_path / "a", client="user").train
    assert isinstance(train.x, RawTexts)
    assert train.clients is not None
    whose = dict(zip(train.x.text, train.clients, strict=True))
    assert whose == {row["text"]: row["user"] for row in rows}


HUB = datasets.Features({"sentence": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])})


def saved(folder: Path, **splits: list[int]) -> Path:
    found = {
        split: datasets.Dataset.from_dict({"sentence": [f"{split} {n}" for n in y], "label": y}, features=HUB)
        for split, y in splits.items()
    }
    datasets.disable_progress_bars()
    datasets.DatasetDict(found).save_to_disk(folder)
    datasets.enable_progress_bars()
    return folder


def test_a_saved_hugging_face_set_brings_the_names_of_its_classes(tmp_path: Path):
    source = read(saved(tmp_path / "hub", train=[1, 0], test=[1], extra=[0]), text="sentence")
    assert source.classes == ("no", "yes")
    assert pairs(source) == [("train 0", "no"), ("train 1", "yes")]
    assert source.notes == (f"{tmp_path / 'hub'}: split 'extra' is not used",)


def test_labels_that_a_set_keeps_to_itself_are_named(tmp_path: Path):
    folder = saved(tmp_path / "hub", train=[1, 0], test=[-1])
    with pytest.raises(DataError, match=r"\(test\): row 1: label -1 does not occur in the training data"):
        read(folder, text="sentence")


@pytest.mark.parametrize(
    ("rows", "columns", "said"),
    [
        (reviews(3, "class"), {}, r"data\.label: .* has no column 'label'; it has 'text', 'class'"),
        (reviews(3), {"text": "review"}, r"data\.text: .* no column 'review'; it has 'text', 'label'.*data\.columns"),
        (reviews(3), {"text_pair": "title"}, r"data\.text_pair: .* no column 'title'"),
        (reviews(3), {"client": "user"}, r"data\.partition\.column: .* no column 'user'"),
        ([*reviews(3), {"text": " ", "label": "praise"}], {}, "line 5 has no text in column 'text'; remove"),
        ([{"text": "", "label": 1}] * 3, {}, r"line 2 has no text in column 'text' \(and 2 more\)"),
        ([*reviews(3), {"text": "x", "label": ""}], {}, "line 5 has no label in column 'label'"),
    ],
)
def test_what_is_missing_in_a_table_is_named(tmp_path: Path, rows, columns, said):
    with pytest.raises(DataError, match=said) as caught:
        read(write_rows(tmp_path / "a.csv", rows), **columns)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"text": None, "label": 1}, "line 4 has no text"),
        ({"label": 1}, "line 4 has no text"),
        ({"text": 5, "label": 1}, "line 4: column 'text' holds 5, which is no text"),
        ({"text": "x"}, "line 4 has no label"),
        ({"text": "x", "label": 0.5}, "line 4: a label must be a whole number or a name, .* holds 0.5"),
        ({"text": "x", "label": float("nan")}, "line 4 has no label"),
        ({"text": "x", "label": [1]}, r"line 4: a label must be .* holds \[1\]"),
    ],
)
def test_a_json_line_without_text_or_label_is_named(tmp_path: Path, row, said):
    with pytest.raises(DataError, match=said):
        read(write_rows(tmp_path / "a.jsonl", [*reviews(3), row]))


@pytest.mark.parametrize("split", ["test", "dev"])
def test_a_class_that_nobody_trains_is_named(tmp_path: Path, split: str):
    write_rows(tmp_path / "train.csv", reviews(6))
    write_rows(tmp_path / f"{split}.csv", [*reviews(2), {"text": "x", "label": "meh"}])
    said = rf"{split}\.csv: line 4: label 'meh' does not occur in the training data .*train\.csv"
    with pytest.raises(DataError, match=said):
        read(tmp_path)


def test_tables_beside_images_or_arrays_are_not_the_data(tmp_path: Path):
    write_rows(tmp_path / "train.csv", reviews(4))
    for split in ("train", "test"):
        np.savez(tmp_path / f"{split}.npz", x=np.ones((4, 5, 5)), y=[0, 1, 0, 1])
    assert read(tmp_path).train.x.shape == (4, 5, 5, 1)


@pytest.mark.parametrize("columns", [{"text": "a"}, {"text_pair": "b"}, {"names": ("a",)}, {"strip": "headers"}])
def test_columns_of_texts_do_not_go_with_images(columns):
    with pytest.raises(DataError, match=r"data\.\w+ = .* does not go with digits"):
        load_dataset("digits", columns=Columns(**columns), sizes=Sizes(train=20))


POST = "From: a@b.c\nSubject: Re: cars\n and more\nLines: 2\n\nI sell\n\none.\n"


def test_of_a_post_the_subject_and_the_body_are_left():
    assert subject_and_body(POST) == "Re: cars\nI sell\n\none."
    assert subject_and_body(POST.replace("\n", "\r\n")) == "Re: cars\nI sell\n\none."
    assert subject_and_body(POST.replace("\n", "\t") + "\n") == "Re: cars\nI sell\n\none."
    assert subject_and_body("Subject: nothing\nLines: 0\n\n") == "nothing"
    assert subject_and_body("I sell one.\n") == "I sell one."


def test_headers_are_stripped_where_asked(tmp_path: Path):
    rows = [{"text": POST, "label": n % 2} for n in range(2)]
    assert pairs(read(write_rows(tmp_path / "a.jsonl", rows), strip="headers"))[0][0] == "Re: cars\nI sell\n\none."
    assert pairs(read(tmp_path / "a.jsonl"))[0][0] == POST
