"""Batches as Python 2 published them are assembled here opcode by opcode: Python 3 cannot write them."""

from __future__ import annotations

import pickle
import struct
from pathlib import Path

import numpy as np
import pytest

from cosp.data.cifar import read_batches
from cosp.data.sources import load_dataset
from cosp.errors import DataError

NAMES = [*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]


def python2_text(value: bytes) -> bytes:
    return b"T" + struct.pack("<i", len(value)) + value  # BINSTRING


def python2_batch(data: np.ndarray, labels: list[int]) -> bytes:
    number = b"J%s"  # BININT
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00t"
        + python2_text(b"b")
        + b"tR(K\x01("
        + b"".join(number % struct.pack("<i", side) for side in data.shape)
        + b"tcnumpy\ndtype\n("
        + python2_text(b"u1")
        + b"K\x00K\x01tR(K\x03"
        + python2_text(b"|")
        + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
        + python2_text(data.tobytes())
        + b"tb"
    )
    listed = b"](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    items = python2_text(b"data") + array + python2_text(b"labels") + listed
    return b"\x80\x02}(" + items + python2_text(b"batch_label") + python2_text(b"testing") + b"u."


def data_of(count: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, 3072), np.uint8)


def write_batches(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for name in NAMES:
        (folder / name).write_bytes(python2_batch(data_of(20), [n % 10 for n in range(20)]))
    return folder


def test_published_batches_are_read_in_order(tmp_path: Path):
    train, test = read_batches(write_batches(tmp_path / "batches"))
    assert (train.x.shape, test.x.shape) == ((100, 32, 32, 3), (20, 32, 32, 3))
    assert train.y[:12].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]
    assert train.x[0, 0, :2, :].tolist() == data_of(20)[0].reshape(3, 32, 32)[:, 0, :2].T.tolist()


@pytest.mark.parametrize("below", ["cifar-10-batches-py", "cifar10/cifar-10-batches-py", "cifar10", "."])
def test_batches_are_found_by_name(tmp_path: Path, below: str):
    write_batches(tmp_path / "data" / below) if below != "." else write_batches(tmp_path / "data")
    dataset = load_dataset("cifar10", data_dir=tmp_path / "data")
    assert (dataset.sample_shape, dataset.classes[0], len(dataset.test)) == ((3, 32, 32), "airplane", 20)


@pytest.mark.parametrize("protocol", [2, 4])
def test_batches_rewritten_by_python3_are_read(tmp_path: Path, protocol: int):
    folder = write_batches(tmp_path / "batches")
    batch = {"data": data_of(2), "labels": [1, 2], "filenames": ["a.png", "b.png"]}
    (folder / "test_batch").write_bytes(pickle.dumps(batch, protocol=protocol))
    assert read_batches(folder)[1].y.tolist() == [1, 2]


class Hostile:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("run by a pickle",)


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], protocol: int):
    folder = write_batches(tmp_path / "batches")
    (folder / "data_batch_2").write_bytes(pickle.dumps({"data": Hostile()}, protocol=protocol))
    with pytest.raises(DataError, match=r"data_batch_2: not a CIFAR-10 batch \(it asks for .*print"):
        read_batches(folder)
    assert capsys.readouterr().out == ""


def test_arrays_of_objects_are_refused(tmp_path: Path):
    folder = write_batches(tmp_path / "batches")
    objects = {"data": np.array([None, {}], object), "labels": [0, 1]}
    (folder / "test_batch").write_bytes(pickle.dumps(objects, protocol=2))
    with pytest.raises(DataError, match="arrays of object are not read"):
        read_batches(folder)


@pytest.mark.parametrize(
    ("batch", "rule"),
    [
        ({"data": np.zeros((2, 5), np.uint8), "labels": [0, 1]}, r"'data' must be a uint8 array \(N, 3072\)"),
        ({"data": np.zeros((2, 3072), np.uint8), "labels": [0]}, "'labels' must be a list of 2 integers"),
        *(
            ({"data": np.zeros((2, 3072), np.uint8), "labels": [0, label]}, f"labels must .* of image 1 is {label}")
            for label in (0.5, 10, -1, 2**70, None)
        ),
        ([1, 2], "'data' must be"),
    ],
)
@pytest.mark.parametrize("name", ["data_batch_3", "test_batch"])
def test_malformed_batches_name_file_and_rule(tmp_path: Path, batch: object, rule: str, name: str):
    folder = write_batches(tmp_path / "cifar10")
    (folder / name).write_bytes(pickle.dumps(batch, protocol=2))
    with pytest.raises(DataError, match=f"{name}: {rule}"):
        load_dataset("cifar10", data_dir=tmp_path)


def test_truncated_and_missing_batches(tmp_path: Path):
    folder = write_batches(tmp_path / "batches")
    whole = (folder / "data_batch_4").read_bytes()
    (folder / "data_batch_4").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="data_batch_4: not a CIFAR-10 batch"):
        read_batches(folder)
    (folder / "data_batch_4").unlink()
    with pytest.raises(DataError, match="data_batch_4: this batch is missing"):
        read_batches(folder)


def test_unpacked_npz_is_read(tmp_path: Path):
    (tmp_path / "cifar10").mkdir()
    for name, count in (("train", 40), ("test", 10)):
        x = data_of(count).reshape(count, 32, 32, 3)
        np.savez(tmp_path / "cifar10" / f"{name}.npz", x=x, y=np.arange(count) % 5)  # classes 5..9 do not occur
    dataset = load_dataset("cifar10", data_dir=tmp_path)
    assert (len(dataset.classes), len(dataset.train), len(dataset.test)) == (10, 36, 10)
