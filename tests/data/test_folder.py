from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cosp.data import Sizes, load_dataset
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
    with pytest.raises(DataError, match=r"dog.0.png: is 8x8, .*cat.0.png is 6x4; set image_size"):
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
