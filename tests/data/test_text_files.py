"""Tables of texts: the same rows whatever the file, and which line is to be mended."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from small_texts import write_rows

from cosp.data.text_files import read_table, split_files
from cosp.errors import DataError

ROWS = [{"text": 'one, "two"', "label": "a"}, {"text": "naïve", "label": "b"}]


@pytest.mark.parametrize("packed", ["", ".gz", ".xz", ".bz2"])
@pytest.mark.parametrize("kind", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_all_kinds_hold_the_same_rows(tmp_path: Path, kind: str, packed: str):
    table = read_table(write_rows(tmp_path / f"reviews{kind}{packed}", ROWS))
    assert {name: list(values) for name, values in table.columns.items()} == {
        "text": ['one, "two"', "naïve"],
        "label": ["a", "b"],
    }


def test_a_mark_at_the_beginning_is_no_part_of_the_first_name(tmp_path: Path):
    (tmp_path / "a.csv").write_text("text,label\nx,1\n", encoding="utf-8-sig")
    assert list(read_table(tmp_path / "a.csv").columns) == ["text", "label"]


def test_places_are_lines_of_the_file_also_behind_a_field_of_many_lines(tmp_path: Path):
    (tmp_path / "a.csv").write_text('text,label\n"two\nlines",1\n\nx,2\n')
    table = read_table(tmp_path / "a.csv")
    assert [table.place(row) for row in range(2)] == ["line 2", "line 5"]


def test_a_field_may_be_longer_than_python_s_own_limit(tmp_path: Path):
    table = read_table(write_rows(tmp_path / "a.csv", [{"text": "x" * 200_000, "label": 1}]))
    assert len(table.columns["text"][0]) == 200_000


def test_a_tsv_does_not_quote(tmp_path: Path):
    (tmp_path / "a.tsv").write_text('text\tlabel\n"so\t1\nan inch " wide\t0\n')
    assert list(read_table(tmp_path / "a.tsv").columns["text"]) == ['"so', 'an inch " wide']


def test_names_are_given_where_the_file_has_none(tmp_path: Path):
    (tmp_path / "a.csv").write_text("3,Fears\n4,Race\n")
    assert dict(read_table(tmp_path / "a.csv", ("label", "text")).columns) == {
        "label": ("3", "4"),
        "text": ("Fears", "Race"),
    }


def test_a_key_that_a_json_line_lacks_is_missing_there(tmp_path: Path):
    (tmp_path / "a.jsonl").write_text('{"text": "x"}\n\n{"text": "y", "label": 1}\n')
    table = read_table(tmp_path / "a.jsonl")
    assert (table.columns["label"], table.place(1)) == ([None, 1], "line 3")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", b"text,label\nx,1\ny,z,2\n", "line 3 has 3 fields, the header has 2"),
        ("a.csv", b"text,label\nx\n", "line 2 has 1 fields, the header has 2"),
        ("a.csv", b'text,label\nx,1\n"y,1\n', "line 3 cannot be read .*unexpected end"),
        ("a.csv", "text,label\nx,1\nnaïve,1\n".encode("latin1"), "line 3 is not UTF-8 .byte 0xef.; convert"),
        ("a.csv", b"text,text\nx,1\n", "column 'text' is there twice"),
        ("a.csv", b"text,label\n", "at least one row below the header line"),
        ("a.csv", b"", "at least one row"),
        ("a.tsv", b"text\tlabel\nx\ty\t1\n", "line 2 has 3 fields, the header has 2; .* tab"),
        ("a.csv.gz", gzip.compress(b"text,label\nx,1\n" * 50)[:-20], "cannot be read .*fetch it again"),
        ("a.csv.gz", b"text,label\nx,1\n", "cannot be read .*fetch it again"),
        ("a.jsonl.xz", b"no xz", "cannot be read .*fetch it again"),
        ("a.jsonl", b'{"text": "x"}\n{"text": \n', "line 2 is not JSON"),
        ("a.jsonl", b'{"text": "x"}\n["y"]\n', r"line 2 must be a JSON object of columns, got \['y'\]|got \[\"y\"\]"),
        ("a.jsonl", b"\n", "at least one row"),
        ("a.parquet", b"no parquet", "cannot be read as parquet"),
    ],
    ids=lambda value: "content" if isinstance(value, bytes) else None,
)
def test_a_damaged_file_names_what_to_mend(tmp_path: Path, name: str, content: bytes, said: str):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=rf"{name}: .*{said}") as caught:
        read_table(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_names_are_for_files_that_may_lack_them(tmp_path: Path):
    write_rows(tmp_path / "a.jsonl", ROWS)
    with pytest.raises(DataError, match=r"data.columns: .*a\.jsonl: only \.csv and \.tsv"):
        read_table(tmp_path / "a.jsonl", ("text", "label"))


def split_names(folder: Path) -> dict[str, list[str]]:
    return {role: [path.name for path in paths] for role, paths in split_files(folder).items()}


def test_splits_of_a_folder_are_known_by_name(tmp_path: Path):
    for name in ("train.csv", "train_10k.csv", "dev.tsv.gz", "test.jsonl", "classes.txt", "trains.csv"):
        (tmp_path / name).touch()
    assert split_names(tmp_path) == {"train": ["train.csv"], "validation": ["dev.tsv.gz"], "test": ["test.jsonl"]}


def test_a_longer_name_or_shards_stand_for_a_split(tmp_path: Path):
    for name in ("train_10k.csv.gz", "test-00000-of-00002.parquet", "test-00001-of-00002.parquet"):
        (tmp_path / name).touch()
    assert split_names(tmp_path) == {
        "train": ["train_10k.csv.gz"],
        "test": ["test-00000-of-00002.parquet", "test-00001-of-00002.parquet"],
    }


def test_two_files_for_one_split_are_refused(tmp_path: Path):
    for name in ("train.csv", "train.tsv"):
        (tmp_path / name).touch()
    with pytest.raises(DataError, match="which of train.csv, train.tsv is the train split"):
        split_files(tmp_path)
