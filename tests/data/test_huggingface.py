from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from PIL import Image

from cosp.data import load_dataset
from cosp.errors import DataError

FEATURES = datasets.Features({"picture": datasets.Image(), "kind": datasets.ClassLabel(names=["cat", "dog"])})


def pictures(count: int, size: tuple[int, int] = (6, 4), kinds: tuple[int, ...] = (0, 1)) -> Any:
    rows = {
        "picture": [Image.new("L", size, 5 * number) for number in range(count)],
        "kind": [kinds[number % len(kinds)] for number in range(count)],
    }
    return datasets.Dataset.from_dict(rows, features=FEATURES)


@pytest.fixture(autouse=True)
def no_progress_bars():
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


def test_columns_and_classes_are_found_by_type(tmp_path: Path):
    pictures(20).save_to_disk(tmp_path / "saved")
    dataset = load_dataset("saved", data_dir=tmp_path)
    assert (dataset.name, dataset.classes, dataset.sample_shape) == ("saved", ("cat", "dog"), (1, 4, 6))
    assert np.bincount(dataset.test.y).tolist() == [2, 2]


@pytest.mark.parametrize("test_name", ["test", "validation"])
def test_own_test_split_is_used(tmp_path: Path, test_name: str):
    datasets.DatasetDict({"train": pictures(10), test_name: pictures(4)}).save_to_disk(tmp_path / "saved")
    assert len(load_dataset(str(tmp_path / "saved")).test) == 4


def test_sizes_must_agree_or_be_set(tmp_path: Path):
    both = datasets.concatenate_datasets([pictures(6), pictures(6, size=(3, 3))])
    both.save_to_disk(tmp_path / "saved")
    with pytest.raises(DataError, match="saved: images have 2 sizes; set image_size"):
        load_dataset(str(tmp_path / "saved"))
    assert load_dataset(str(tmp_path / "saved"), image_size=4).sample_shape == (1, 4, 4)


def test_malformed_sets_name_folder_and_rule(tmp_path: Path):
    def refused(found: Any, name: str, rule: str) -> None:
        found.save_to_disk(tmp_path / name)
        with pytest.raises(DataError, match=f"{name}.*{rule}"):
            load_dataset(str(tmp_path / name))

    refused(pictures(4).rename_column("kind", "label").remove_columns("label"), "a", "one column of type ClassLabel")
    refused(datasets.DatasetDict({"other": pictures(4)}), "b", "a split named 'train' is needed, found .'other'.")
    unlabelled = datasets.DatasetDict({"train": pictures(10), "test": pictures(4, kinds=(-1,))})
    refused(unlabelled, "c", r"labels must lie in 0\.\.1, got -1\.\.-1")
    (tmp_path / "c" / "train" / "state.json").write_text("{")
    with pytest.raises(DataError, match="c: cannot be read as a saved Hugging Face data set"):
        load_dataset(str(tmp_path / "c"))


def png() -> bytes:
    file = io.BytesIO()
    Image.linear_gradient("L").save(file, "png")
    return file.getvalue()


@pytest.mark.parametrize(
    ("picture", "kind", "said"),
    [
        (b"no image", 0, r"\(train\): image 2 cannot be read \(cannot identify image"),
        (b"", 0, "image 2 cannot be read"),
        (png()[:300], 0, r"image 2 cannot be read \(image file is truncated"),
        (None, 0, r"image 2 cannot be read \(there is none\)"),
        (png(), None, "labels must be integers"),
    ],
    ids=["garbage", "empty", "cut", "missing", "unlabelled"],
)
def test_a_broken_row_names_folder_and_image(tmp_path: Path, picture: bytes | None, kind: int | None, said: str):
    contents = [png(), png(), picture, png()]
    encoded = [None if content is None else {"bytes": content, "path": None} for content in contents]
    rows = {"picture": encoded, "kind": [0, 1, kind, 1]}
    datasets.Dataset.from_dict(rows, features=FEATURES).save_to_disk(tmp_path / "saved")
    with pytest.raises(DataError, match=f"saved.*{said}") as caught:
        load_dataset(str(tmp_path / "saved"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["hf:someone/pictures", "someone/pictures"])
def test_by_name_goes_to_the_hub(monkeypatch: pytest.MonkeyPatch, name: str):
    def hub(repository: str) -> Any:
        assert repository == "someone/pictures"
        return datasets.DatasetDict({"train": pictures(10), "test": pictures(4)})

    monkeypatch.setattr(datasets, "load_dataset", hub)
    assert len(load_dataset(name).test) == 4


def test_what_is_here_comes_before_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(datasets, "load_dataset", lambda _: pytest.fail("the hub was asked"))
    pictures(20).save_to_disk(tmp_path / "someone" / "pictures")
    assert len(load_dataset("someone/pictures", data_dir=tmp_path).test) == 4


def test_offline_says_the_two_ways(monkeypatch: pytest.MonkeyPatch):
    def offline(_: str) -> Any:
        raise ConnectionError("Couldn't reach the Hub\nwith details")

    monkeypatch.setattr(datasets, "load_dataset", offline)
    with pytest.raises(DataError, match=r"Couldn't reach the Hub.*--data-dir DIR or COSP_DATA_DIR.*hf:a/b") as caught:
        load_dataset("a/b")
    assert "\n" not in str(caught.value)
