from __future__ import annotations

import gzip
import os
import struct
from pathlib import Path

import numpy as np
import pytest

from cosp.data import Sizes, load_dataset
from cosp.errors import DataError

IDX = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def idx(array: np.ndarray) -> bytes:
    return (
        bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.astype(np.uint8).tobytes()
    )


def write_idx_set(folder: Path, *, train: int = 40, test: int = 10, compressed: bool = True) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 256, (train + test, 28, 28))
    labels = np.arange(train + test) % 10
    arrays = pixels[:train], labels[:train], pixels[train:], labels[train:]
    for name, array in zip(IDX, arrays, strict=True):
        if compressed:
            (folder / f"{name}.gz").write_bytes(gzip.compress(idx(array)))
        else:
            (folder / name).write_bytes(idx(array))
    return folder


def test_digits_are_there_without_any_folder(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("COSP_DATA_DIR", raising=False)
    dataset = load_dataset("digits")
    assert (dataset.sample_shape, dataset.classes) == ((1, 8, 8), tuple("0123456789"))
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (1294, 144, 359)
    assert np.bincount(dataset.test.y).min() >= 34
    assert abs(dataset.train.x.mean()) < 1e-6
    assert abs(dataset.train.x.std() - 1) < 1e-6
    assert (dataset.train.x.dtype, dataset.train.y.dtype) == (np.float32, np.int64)


def test_seed_draws_validation_but_never_the_test_images():
    first, second, again = (load_dataset("digits", seed=seed) for seed in (0, 1, 0))
    assert np.array_equal(first.train.x, again.train.x)
    assert not np.array_equal(first.validation.y, second.validation.y)
    assert np.array_equal(first.test.y, second.test.y)


@pytest.mark.parametrize("name", ["fashion_mnist", "fashion-mnist"])
@pytest.mark.parametrize("folder", ["fashion_mnist", "fashion-mnist", "FashionMNIST/raw", "."])
@pytest.mark.parametrize("compressed", [True, False])
def test_idx_files_are_found(tmp_path: Path, name: str, folder: str, compressed: bool):
    write_idx_set(tmp_path / folder, compressed=compressed)
    dataset = load_dataset(name, data_dir=tmp_path)
    assert (dataset.name, dataset.classes[9], dataset.sample_shape) == ("fashion_mnist", "Ankle boot", (1, 28, 28))
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (36, 4, 10)


def test_data_folder_may_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_idx_set(tmp_path / "mnist")
    monkeypatch.setenv("COSP_DATA_DIR", str(tmp_path))
    assert load_dataset("mnist").classes == tuple("0123456789")


def test_sizes_take_the_first_images(tmp_path: Path):
    write_idx_set(tmp_path / "mnist")
    dataset = load_dataset("mnist", data_dir=tmp_path, sizes=Sizes(train=12, validation=5, test=3))
    assert dataset.train.y.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]
    assert (dataset.validation.y.tolist(), dataset.test.y.tolist()) == ([2, 3, 4, 5, 6], [0, 1, 2])
    with pytest.raises(DataError, match="11 test images were asked for, there are 10"):
        load_dataset("mnist", data_dir=tmp_path, sizes=Sizes(test=11))


def test_only_training_images_set_the_scale(tmp_path: Path):
    x = np.array([0, 2, 0, 2, 100, 100]).reshape(6, 1, 1)
    np.savez(tmp_path / "d.npz", x=x, y=[0, 1, 0, 1, 0, 1], x_test=x + 1, y_test=[0, 1, 0, 1, 0, 1])
    dataset = load_dataset(str(tmp_path / "d.npz"), sizes=Sizes(train=4, validation=2))
    assert (dataset.mean, dataset.std) == ((1.0,), (1.0,))
    assert dataset.train.x.ravel().tolist() == [-1, 1, -1, 1]
    assert dataset.validation.x.ravel().tolist() == [99, 99]
    assert dataset.test.x.ravel().tolist() == [0, 2, 0, 2, 100, 100]


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "cifar10"])
def test_missing_data_says_what_where_and_the_two_ways(tmp_path: Path, name: str):
    with pytest.raises(DataError) as caught:
        load_dataset(name, data_dir=tmp_path)
    message = str(caught.value)
    assert "\n" not in message
    for part in (name, str(tmp_path), "--data-dir DIR", "COSP_DATA_DIR", "hf:"):
        assert part in message


def test_missing_data_without_any_folder(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("COSP_DATA_DIR", raising=False)
    with pytest.raises(DataError, match="mnist: looked for .*: no data folder was given; point --data-dir"):
        load_dataset("mnist")


def test_unknown_name_and_missing_folder(tmp_path: Path):
    with pytest.raises(DataError, match="mnits: neither a known data set .digits, mnist, fashion_mnist, cifar10."):
        load_dataset("mnits", data_dir=tmp_path)
    with pytest.raises(DataError, match="nowhere: the data folder must exist"):
        load_dataset("mnist", data_dir=tmp_path / "nowhere")


def test_other_files_are_refused(tmp_path: Path):
    (tmp_path / "x.txt").write_text("1,2")
    with pytest.raises(DataError, match=r"x.txt: a data file must end in \.npz"):
        load_dataset("x.txt", data_dir=tmp_path)


@pytest.mark.parametrize(
    ("file", "content", "rule"),
    [
        (IDX[0], gzip.compress(b"\x00\x00\x08\x01" + bytes(12)), "starts with 00000803, got 00000801"),
        (IDX[0], gzip.compress(idx(np.zeros((40, 28, 28))))[:-20], "damaged or cut short"),
        (IDX[1], b"no gzip at all", "damaged or cut short"),
        (IDX[1], gzip.compress(idx(np.zeros(40))[:-1]), "promises 40 bytes .*, got 39"),
        (IDX[1], gzip.compress(b"\x00\x00\x08"), "starts with 00000801, got 000008"),
        (IDX[1], gzip.compress(idx(np.zeros(39))), "every image needs one label, got 40 images and 39 labels"),
        (IDX[1], gzip.compress(idx(np.full(40, 10))), r"labels must lie in 0\.\.9, got 10\.\.10"),
        (IDX[1], gzip.compress(idx(np.full(40, 7))), "at least 2 classes, .* all '7'"),
        (IDX[2], gzip.compress(idx(np.zeros((10, 8, 8)))), r"images of mnist are \(28, 28, 1\)"),
        (IDX[0], gzip.compress(idx(np.zeros((0, 28, 28)))), "got 0 images and 40 labels"),
    ],
    # gzip writes the time of day: bytes in a test's name would differ between the processes that run the tests
    ids=lambda value: "content" if isinstance(value, bytes) else None,
)
def test_malformed_idx_names_file_and_rule(tmp_path: Path, file: str, content: bytes, rule: str):
    folder = write_idx_set(tmp_path / "mnist")
    (folder / f"{file}.gz").write_bytes(content)
    with pytest.raises(DataError, match=rf"ubyte\.gz: .*{rule}"):
        load_dataset("mnist", data_dir=tmp_path)


def test_a_set_with_a_missing_file_names_it(tmp_path: Path):
    folder = write_idx_set(tmp_path / "mnist")
    (folder / f"{IDX[3]}.gz").unlink()
    with pytest.raises(DataError, match=f"{IDX[3]}.gz: missing"):
        load_dataset("mnist", data_dir=tmp_path)


@pytest.mark.skipif("COSP_DATA_DIR" not in os.environ, reason="COSP_DATA_DIR names no folder with Fashion-MNIST")
def test_real_fashion_mnist_is_whole_and_balanced():
    dataset = load_dataset("fashion_mnist")
    assert np.bincount(dataset.train.y).tolist() == [5400] * 10
    assert np.bincount(dataset.validation.y).tolist() == [600] * 10
    assert np.bincount(dataset.test.y).tolist() == [1000] * 10
