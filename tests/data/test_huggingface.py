from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from PIL import Image

from cosp.data import load_dataset
from cosp.data.columns import Columns
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
    with pytest.raises(DataError, match=r"saved \(train\): image 6: is 3x3, .*image 0 is 6x4; set data.image_size"):
        load_dataset(str(tmp_path / "saved"))
    assert load_dataset(str(tmp_path / "saved"), image_size=4).sample_shape == (1, 4, 4)


def test_malformed_sets_name_folder_and_rule(tmp_path: Path):
    def refused(found: Any, name: str, rule: str) -> None:
        found.save_to_disk(tmp_path / name)
        with pytest.raises(DataError, match=f"{name}.*{rule}"):
            load_dataset(str(tmp_path / name))

    refused(
        pictures(4).rename_column("kind", "label").remove_columns("label"),
        "a",
        "has no column of labels .*; data.label names one",
    )
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
        (b"no image", 0, r"\(train\): image 2: cannot be read as an image \(cannot identify image"),
        (b"", 0, "image 2: cannot be read"),
        (png()[:300], 0, r"image 2: cannot be read as an image \(image file is truncated"),
        (None, 0, r"image 2: cannot be read as an image \(there is none\)"),
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


def with_columns(count: int = 20, **columns: Any) -> Any:
    """``pictures`` with further columns, each a feature and what row ``n`` holds."""
    base = pictures(count)
    features = datasets.Features({**base.features, **{name: feature for name, (feature, _) in columns.items()}})
    rows = {name: [value(row) for row in range(count)] for name, (_, value) in columns.items()}
    return datasets.Dataset.from_dict({**base.to_dict(), **rows}, features=features)


def test_one_of_two_label_columns_is_chosen_as_in_cifar_100(tmp_path: Path):
    coarse = datasets.ClassLabel(names=["animal", "plant", "stone"])
    with_columns(coarse=(coarse, lambda row: row % 3)).save_to_disk(tmp_path / "saved")
    with pytest.raises(DataError, match="has 2 columns of labels .*: choose one by data.label: coarse or kind"):
        load_dataset(str(tmp_path / "saved"))
    for name, classes in (("coarse", ("animal", "plant", "stone")), ("kind", ("cat", "dog"))):
        assert load_dataset(str(tmp_path / "saved"), columns=Columns(label=name)).classes == classes


@pytest.mark.parametrize(
    ("feature", "value", "classes"),
    [
        (datasets.Value("int64"), lambda row: row % 2 * 7, ("0", "7")),
        (datasets.Value("string"), lambda row: ("dog", "cat")[row % 2], ("cat", "dog")),
        (datasets.Value("bool"), lambda row: row % 2 == 1, ("False", "True")),
    ],
)
def test_labels_may_be_undeclared_integers_and_texts(
    tmp_path: Path, feature: Any, value: Any, classes: tuple[str, ...]
):
    found = with_columns(what=(feature, value)).remove_columns("kind")
    datasets.DatasetDict({"train": found, "test": found.select(range(4))}).save_to_disk(tmp_path / "saved")
    dataset = load_dataset(str(tmp_path / "saved"))
    assert (dataset.classes, dataset.test.y.max()) == (classes, 1)


def test_a_column_of_captions_is_not_taken_for_labels(tmp_path: Path):
    found = with_columns(caption=(datasets.Value("string"), lambda row: f"picture {row}")).remove_columns("kind")
    found.save_to_disk(tmp_path / "saved")
    with pytest.raises(DataError, match="column 'caption' has 20 values for 20 images, .* by data.label"):
        load_dataset(str(tmp_path / "saved"))


def test_columns_that_do_not_suit_are_named_with_their_key(tmp_path: Path):
    with_columns(more=(datasets.Image(), lambda row: {"bytes": png(), "path": None})).save_to_disk(tmp_path / "saved")

    def refused(rule: str, **columns: str) -> None:
        with pytest.raises(DataError, match=f"saved: .*{rule}"):
            load_dataset(str(tmp_path / "saved"), columns=Columns(**columns))

    refused("has 2 columns of images: choose one by data.image: more or picture")
    refused("data.image: kind is no column of images; the columns are kind .int64., more", image="kind")
    refused("data.label: more is no column of labels", image="picture", label="more")
    refused("data.partition.column: who is no column of clients", image="picture", client="who")


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("kind", ["undecoded", "struct", "paths", "bytes"])
def test_undecoded_images_are_decoded(tmp_path: Path, kind: str, named: bool):
    if kind in ("paths", "bytes") and not named:
        pytest.skip("nothing says that these are images")
    (tmp_path / "0.png").write_bytes(png())
    path, both = str(tmp_path / "0.png"), {"bytes": datasets.Value("binary"), "path": datasets.Value("string")}
    feature, value = {
        "undecoded": (datasets.Image(decode=False), {"path": path, "bytes": None}),
        "struct": (both, {"path": "0.png", "bytes": png()}),
        "paths": (datasets.Value("string"), path),
        "bytes": (datasets.Value("binary"), png()),
    }[kind]
    features = datasets.Features({"seen": feature, "kind": FEATURES["kind"]})
    rows = {"seen": [value] * 20, "kind": [0, 1] * 10}
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(tmp_path / "saved")
    dataset = load_dataset(str(tmp_path / "saved"), columns=Columns(image="seen" if named else None))
    assert (dataset.sample_shape, dataset.mean) == ((1, 256, 256), (127.5,))


def test_a_file_that_is_gone_names_the_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    features = datasets.Features({"seen": datasets.Image(decode=False), "kind": FEATURES["kind"]})
    rows = {"seen": [{"path": str(tmp_path / "no.png"), "bytes": None}] * 4, "kind": [0, 1] * 2}
    found = datasets.Dataset.from_dict(rows, features=features)
    monkeypatch.setattr(datasets, "load_dataset", lambda _: datasets.DatasetDict({"train": found}))
    with pytest.raises(DataError, match="image 0: cannot be read as an image .*No such file"):
        load_dataset("hf:someone/pictures")


def test_an_own_validation_split_validates_beside_test_and_others_are_said(tmp_path: Path):
    splits = {"train": pictures(10), "valid": pictures(6), "test": pictures(4), "extra": pictures(5)}
    datasets.DatasetDict(splits).save_to_disk(tmp_path / "saved")
    dataset = load_dataset(str(tmp_path / "saved"))
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (10, 6, 4)
    assert dataset.notes == (f"{tmp_path / 'saved'}: split 'extra' is not used",)


def test_a_column_of_clients_goes_with_its_rows(tmp_path: Path):
    who = (datasets.Value("string"), lambda row: f"{'ab'[row % 2]}{row // 10}")
    with_columns(who=who).save_to_disk(tmp_path / "saved")
    train = load_dataset(str(tmp_path / "saved"), columns=Columns(client="who")).train
    assert train.clients is not None
    assert [name[0] for name in train.clients] == ["ab"[label] for label in train.y]
