from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from PIL import Image

from cosp.data import Sizes, load_dataset
from cosp.data.columns import Columns
from cosp.errors import DataError


def write_images(folder: Path, count: int, *, mode: str = "L", size: tuple[int, int] = (6, 4), colour: int = 0) -> None:
    folder.mkdir(parents=True)
    for number in range(count):
        Image.new(mode, size, colour + number).save(folder / f"{number}.png")


def test_folders_are_classes(tmp_path: Path):
    write_images(tmp_path / "cat", 10)
    write_images(tmp_path / "dog", 10, colour=100)
    (tmp_path / "dog" / "notes.txt").write_text("passed over")
    (tmp_path / ".cache").mkdir()
    dataset = load_dataset(str(tmp_path))
    assert (dataset.classes, dataset.sample_shape) == (("cat", "dog"), (1, 4, 6))
    assert np.bincount(dataset.test.y).tolist() == [2, 2]
    dark = [float(image.mean()) < 0 for image in dataset.train.x]
    assert dark == [label == 0 for label in dataset.train.y]  # each image kept its label


def test_first_images_are_of_all_classes(tmp_path: Path):
    for name in ("cat", "dog"):
        write_images(tmp_path / name, 20)
    assert set(load_dataset(str(tmp_path), sizes=Sizes(train=10)).train.y.tolist()) == {0, 1}


def test_train_and_test_folders(tmp_path: Path):
    for name in ("train/cat", "train/dog", "test/dog"):
        write_images(tmp_path / name, 4)
    assert load_dataset(str(tmp_path)).test.y.tolist() == [1, 1, 1, 1]


def test_one_colour_image_makes_all_rgb(tmp_path: Path):
    write_images(tmp_path / "cat", 5)
    write_images(tmp_path / "dog", 5, mode="RGB")
    write_images(tmp_path / "owl", 5, mode="P")
    assert load_dataset(str(tmp_path)).sample_shape == (3, 4, 6)


def test_sizes_must_agree_or_be_set(tmp_path: Path):
    write_images(tmp_path / "cat", 5)
    write_images(tmp_path / "dog", 5, size=(8, 8))
    with pytest.raises(DataError, match=r"dog.0.png: is 8x8, .*cat.0.png is 6x4; set data.image_size"):
        load_dataset(str(tmp_path))
    assert load_dataset(str(tmp_path), image_size=5).sample_shape == (1, 5, 5)
    with pytest.raises(ValueError, match="image_size must be >= 1"):
        load_dataset(str(tmp_path), image_size=0)


def test_malformed_folders_name_what_is_wrong(tmp_path: Path):
    with pytest.raises(DataError, match="no folders named after classes"):
        load_dataset(str(tmp_path))
    write_images(tmp_path / "cat", 5)
    (tmp_path / "dog").mkdir()
    with pytest.raises(DataError, match="dog: no images in this class folder"):
        load_dataset(str(tmp_path))
    (tmp_path / "dog" / "0.png").write_bytes(b"no image")
    with pytest.raises(DataError, match="0.png: cannot be read as an image"):
        load_dataset(str(tmp_path))
    Image.effect_noise((40, 40), 90).save(tmp_path / "noise.png")
    whole = (tmp_path / "noise.png").read_bytes()
    (tmp_path / "dog" / "0.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="0.png: cannot be read as an image"):
        load_dataset(str(tmp_path), image_size=6)
    Image.new("I;16", (6, 4)).save(tmp_path / "dog" / "0.png")
    with pytest.raises(DataError, match="more than 8 bits"):
        load_dataset(str(tmp_path))


def test_a_test_class_must_be_trained(tmp_path: Path):
    for name in ("train/cat", "train/dog", "test/owl"):
        write_images(tmp_path / name, 4)
    with pytest.raises(DataError, match="owl: this class has no folder in"):
        load_dataset(str(tmp_path))


@pytest.mark.parametrize("training", ["train", "Training", "TRAIN"])
@pytest.mark.parametrize("name", ["val", "valid", "validation", "Validation"])
def test_a_validation_folder_tests_where_there_is_no_test_folder(tmp_path: Path, training: str, name: str):
    for part in (f"{training}/cat", f"{training}/dog", f"{name}/dog"):
        write_images(tmp_path / part, 10)
    dataset = load_dataset(str(tmp_path))
    assert (len(dataset.train), len(dataset.validation), dataset.test.y.tolist()) == (18, 2, [1] * 10)
    assert dataset.notes == (f"{tmp_path / name}: the validation split tests, as there is no test split",)
    write_images(tmp_path / "Testing" / "cat", 3)
    dataset = load_dataset(str(tmp_path))
    assert (len(dataset.train), dataset.validation.y.tolist(), dataset.test.y.tolist()) == (20, [1] * 10, [0] * 3)
    assert dataset.notes == ()


def test_split_folders_that_leave_a_doubt_are_refused(tmp_path: Path):
    for part in ("val/cat", "test/cat"):
        write_images(tmp_path / part, 3)
    with pytest.raises(DataError, match="holds test, val, but no train/"):
        load_dataset(str(tmp_path))
    for part in ("train/cat", "Training/cat"):
        write_images(tmp_path / part, 3)
    with pytest.raises(DataError, match="'Training' and 'train' are both the train split; keep one"):
        load_dataset(str(tmp_path))


def test_a_test_folder_without_classes_is_said(tmp_path: Path):
    for part in ("train/cat", "train/dog", "test"):
        write_images(tmp_path / part, 10)
    assert load_dataset(str(tmp_path)).notes == (
        f"{tmp_path / 'test'}: is not used, it has no folders named after classes",
    )


def test_a_folder_beside_the_splits_is_not_passed_over_without_a_word(tmp_path: Path):
    for part in ("train/cat", "train/dog", "holdout/cat", "__MACOSX/cat"):
        write_images(tmp_path / part, 10)
    assert load_dataset(str(tmp_path)).notes == (f"{tmp_path / 'holdout'}: is not used, its name is that of no split",)


def test_a_class_may_be_called_train(tmp_path: Path):
    for part in ("train", "plane"):
        write_images(tmp_path / part, 10)
    assert load_dataset(str(tmp_path)).classes == ("plane", "train")
    for part in ("train/cat", "test/cat"):  # no classes of their own: splits without labels
        write_images(tmp_path / "unlabelled" / part.split("/")[0], 5)
    with pytest.raises(DataError, match="train: no folders named after classes in it"):
        load_dataset(str(tmp_path / "unlabelled"))


@pytest.mark.parametrize(
    "name", ["lost+found", "$RECYCLE.BIN", "System Volume Information", "__MACOSX", "@eaDir", ".Trashes"]
)
def test_what_systems_leave_is_passed_over(tmp_path: Path, name: str):
    for part in ("cat", "dog", name, f"cat/{name}"):
        write_images(tmp_path / part, 10)
    (tmp_path / "cat" / "._0.png").write_bytes(b"\0\5\x16\7")
    dataset = load_dataset(str(tmp_path))
    assert (dataset.classes, len(dataset.train) + len(dataset.validation) + len(dataset.test)) == (("cat", "dog"), 20)


@contextmanager
def as_a_stranger() -> Iterator[None]:
    """Do as a user whom rights hold back; root is not."""
    own = os.geteuid()
    os.seteuid(12345 if own == 0 else own)
    try:
        yield
    finally:
        os.seteuid(own)


@pytest.mark.parametrize("closed", [".", "dog", "dog/0.png"])
@pytest.mark.parametrize("stream", [False, True])
def test_what_the_user_may_not_read_is_one_line(closed: str, stream: bool):
    with TemporaryDirectory() as name:  # not below tmp_path, which strangers may not enter
        folder = Path(name)
        folder.chmod(0o755)
        for part in ("cat", "dog", "lost+found"):
            write_images(folder / part, 4)
        (folder / "lost+found").chmod(0)
        with as_a_stranger():
            assert load_dataset(name, stream=stream).classes == ("cat", "dog")
        (folder / closed).chmod(0)
        with as_a_stranger(), pytest.raises(DataError, match="cannot be read.*Permission denied") as caught:
            load_dataset(name, stream=stream)
        (folder / closed).chmod(0o755)
    assert str(folder / closed) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_class_names_that_are_no_utf8_are_shown_with_a_replacement(tmp_path: Path):
    write_images(tmp_path / "the", 10)
    write_images(tmp_path / os.fsdecode(b"caf\xe9"), 10, colour=100)
    dataset = load_dataset(str(tmp_path))
    assert dataset.classes == ("caf\ufffd", "the")
    write_images(tmp_path / os.fsdecode(b"caf\xe8"), 10)
    with pytest.raises(DataError, match="two classes are called 'caf\ufffd'"):
        load_dataset(str(tmp_path))


@pytest.mark.parametrize("stream", [False, True])
def test_folders_above_the_classes_are_clients_if_asked(tmp_path: Path, stream: bool):
    for part in ("train/ann/cat", "train/ann/dog", "train/bob/dog", "test/eve/cat"):
        write_images(tmp_path / part, 10, colour=100 if "dog" in part else 0)
    dataset = load_dataset(str(tmp_path), columns=Columns(client="client"), stream=stream)
    assert (dataset.classes, len(dataset.test)) == (("cat", "dog"), 10)
    assert dataset.train.clients is not None
    pairs = zip(dataset.train.clients.tolist(), dataset.train.y.tolist(), strict=True)
    assert set(pairs) == {("ann", 0), ("ann", 1), ("bob", 1)}
    with pytest.raises(DataError, match="in its folders, which are clients"):
        load_dataset(str(tmp_path / "train" / "ann"), columns=Columns(client="client"))
