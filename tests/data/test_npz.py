from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cosp.data import Sizes, load_dataset
from cosp.errors import DataError

X = np.arange(50 * 4 * 5, dtype=np.float32).reshape(50, 4, 5)
Y = np.arange(50) % 2
NAMES = np.array(["dog", "cat"])[Y]


def test_one_file_is_split_by_class(tmp_path: Path):
    np.savez(tmp_path / "mine.npz", x=X, y=Y)
    dataset = load_dataset("mine.npz", data_dir=tmp_path)
    assert (dataset.name, dataset.classes, dataset.sample_shape) == ("mine", ("0", "1"), (1, 4, 5))
    assert np.bincount(dataset.test.y).tolist() == [5, 5]
    assert (len(dataset.train), len(dataset.validation)) == (36, 4)


def test_colour_comes_out_channels_first_and_each_channel_has_its_scale(tmp_path: Path):
    x = np.random.default_rng(0).normal((10, 20, 30), (1, 2, 3), (50, 4, 5, 3))
    np.savez(tmp_path / "mine.npz", x=x, y=Y)
    dataset = load_dataset(str(tmp_path / "mine.npz"))
    assert dataset.sample_shape == (3, 4, 5)
    assert np.allclose(dataset.train.x.mean(axis=(0, 2, 3)), 0, atol=1e-5)
    assert np.allclose(dataset.train.x.std(axis=(0, 2, 3)), 1, atol=1e-5)
    assert [round(value) for value in dataset.mean] == [10, 20, 30]


def test_a_constant_channel_becomes_zero(tmp_path: Path):
    np.savez(tmp_path / "mine.npz", x=np.stack([X, X * 0 + 7], axis=-1), y=Y)
    assert not load_dataset(str(tmp_path / "mine.npz")).train.x[:, 1].any()


def test_own_test_arrays_and_class_names_are_used(tmp_path: Path):
    np.savez(tmp_path / "mine.npz", x=X, y=Y, x_test=X[:3], y_test=Y[:3], classes=["cat", "dog", "owl"])
    dataset = load_dataset(str(tmp_path / "mine.npz"))
    assert (dataset.classes, dataset.test.y.tolist()) == (("cat", "dog", "owl"), [0, 1, 0])


def test_labels_without_names_may_be_any_integers(tmp_path: Path):
    np.savez(tmp_path / "mine.npz", x=X, y=Y * 5 - 2)
    dataset = load_dataset(str(tmp_path / "mine.npz"))
    assert (dataset.classes, sorted(set(dataset.train.y.tolist()))) == (("-2", "3"), [0, 1])


@pytest.mark.parametrize("kind", [str, np.bytes_])
def test_labels_may_be_names(tmp_path: Path, kind: type):
    np.savez(tmp_path / "mine.npz", x=X, y=NAMES.astype(kind), x_test=X[:3], y_test=NAMES[:3].astype(kind))
    dataset = load_dataset(str(tmp_path / "mine.npz"))
    assert (dataset.classes, dataset.test.y.tolist()) == (("cat", "dog"), [1, 0, 1])


def test_class_names_order_labels_that_are_names(tmp_path: Path):
    np.savez(tmp_path / "mine.npz", x=X, y=NAMES, x_test=X[:3], y_test=NAMES[:3], classes=["owl", "dog", "cat"])
    dataset = load_dataset(str(tmp_path / "mine.npz"))
    assert (dataset.classes, dataset.test.y.tolist()) == (("owl", "dog", "cat"), [1, 2, 1])


@pytest.mark.parametrize("name", ["val", "valid", "validation"])
def test_an_own_validation_split_validates_beside_a_test_split(tmp_path: Path, name: str):
    own = {f"x_{name}": X[:7], f"y_{name}": Y[:7]}
    np.savez(tmp_path / "mine.npz", x=X, y=Y, x_test=X[:3], y_test=Y[:3], **own)
    dataset = load_dataset(str(tmp_path / "mine.npz"), sizes=Sizes(validation=5))
    assert (len(dataset.train), len(dataset.validation), len(dataset.test), dataset.notes) == (50, 5, 3, ())
    assert dataset.validation.y.tolist() == Y[:5].tolist()


def test_an_own_validation_split_tests_where_there_is_no_other(tmp_path: Path):
    np.savez(tmp_path / "mine.npz", x=X, y=Y, x_val=X[:7], y_val=Y[:7])
    dataset = load_dataset(str(tmp_path / "mine.npz"))
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (45, 5, 7)
    assert [note.endswith("the validation split tests, as there is no test split") for note in dataset.notes] == [True]


def test_no_array_is_passed_over_without_a_word(tmp_path: Path):
    np.savez(tmp_path / "mine.npz", x=X, y=Y, weight=Y, client=Y)
    weight, client = load_dataset(str(tmp_path / "mine.npz")).notes
    assert weight.endswith("mine.npz: array 'weight' is not used")
    assert client.endswith("array 'client' is not used; data.partition.kind column shares out by it")


@pytest.mark.parametrize("sizes", [Sizes(train=20), Sizes(validation=10), Sizes(test=3)])
def test_the_first_of_a_file_sorted_by_class_are_not_taken_for_all_classes(tmp_path: Path, sizes: Sizes):
    y = np.repeat(np.arange(5), 10)
    np.savez(tmp_path / "sorted.npz", x=X, y=y)
    with pytest.raises(DataError, match=r"sorted by class, so the first \d+ samples .* data\.\w+=null"):
        load_dataset(str(tmp_path / "sorted.npz"), sizes=sizes)
    np.savez(tmp_path / "sorted.npz", x=X, y=np.arange(50) % 5)
    assert load_dataset(str(tmp_path / "sorted.npz"), sizes=sizes).classes == tuple("01234")


def test_a_folder_with_train_val_and_test(tmp_path: Path):
    for name, rows in (("train", 50), ("val", 7), ("test", 6)):
        np.savez(tmp_path / f"{name}.npz", x=X[:rows], y=Y[:rows])
    dataset = load_dataset(str(tmp_path))
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (50, 7, 6)


def test_a_folder_with_train_and_test(tmp_path: Path):
    np.savez(tmp_path / "train.npz", x=X, y=Y)
    np.savez(tmp_path / "test.npz", x=X[:6], y=Y[:6])
    assert len(load_dataset(str(tmp_path)).test) == 6
    (tmp_path / "test.npz").unlink()
    with pytest.raises(DataError, match="test.npz: cannot be read"):
        load_dataset(str(tmp_path))


def with_pixel(value: float) -> np.ndarray:
    x = X.astype(np.float64)
    x[3, 0, 0] = value
    return x


@pytest.mark.parametrize(
    ("arrays", "rule"),
    [
        ({"x": X}, "array 'y' is missing, found \\['x'\\]"),
        ({"x": X, "y": Y, "x_test": X}, "array 'y_test' is missing"),
        ({"x": X, "y": Y[:-1]}, "got 50 images and 49 labels"),
        ({"x": X, "y": Y.astype(float)}, "labels must be integers of shape \\(N,\\) or texts, got float64.*astype"),
        ({"x": X, "y": Y[:, None]}, "labels must be integers of shape"),
        ({"x": X, "y": Y * 0}, "at least 2 classes"),
        (
            {"x": X, "y": Y.astype(np.uint64) * np.uint64(2**64 - 1)},
            "labels must be at most .*, got 18446744073709551615",
        ),
        ({"x": with_pixel(np.nan), "y": Y}, r"pixels must lie in -1e\+30\.\.1e\+30, got nan\.\.nan"),
        ({"x": with_pixel(np.inf), "y": Y}, r"pixels must lie in .*, got 0\.0\.\.inf"),
        ({"x": with_pixel(-1e300), "y": Y}, r"pixels must lie in .*, got -1e\+300\.\."),
        ({"x": X, "y": Y, "x_test": with_pixel(1e300), "y_test": Y}, "pixels must lie in"),
        ({"x": X[:0], "y": Y[:0]}, "at least one image"),
        ({"x": X[:, 0], "y": Y}, "must be texts, integers for their words"),
        ({"x": X.astype(str), "y": Y}, "images must be numbers of shape"),
        ({"x": X.astype(object), "y": Y}, "cannot be read as .npz"),
        ({"x": X.reshape(50, 1, 4, 5), "y": Y}, "look channels first"),
        ({"x": X, "y": Y, "x_test": X[:, :2], "y_test": Y}, "they must be alike"),
        ({"x": X, "y": Y, "x_test": X, "y_test": Y + 1}, "label 2 does not occur in the training data"),
        ({"x": X, "y": Y, "x_val": X}, "array 'y_val' is missing"),
        ({"x": X, "y": Y, "x_val": X[:, :2], "y_val": Y, "x_test": X, "y_test": Y}, "they must be alike"),
        ({"x": X, "y": Y, "x_val": X, "y_val": Y, "x_valid": X, "y_valid": Y}, "'val' and 'valid' are both the valid"),
        ({"x": X, "y": NAMES, "x_test": X, "y_test": Y}, "labels are int64, those of the training data <U3"),
        ({"x": X, "y": NAMES, "x_test": X, "y_test": np.full(50, "owl")}, "label owl does not occur in the training"),
        ({"x": X, "y": NAMES, "classes": ["cat", "owl"]}, "label 'dog' is none of the classes cat, owl"),
        ({"x": X, "y": Y, "classes": ["cat", "cat"]}, "two classes are called 'cat'"),
        ({"x": X, "y": np.full(50, b"caf\xe9")}, "y: holds bytes that are no UTF-8"),
        ({"x": X, "y": NAMES.astype(object)}, r"write it with numpy.savez\(path, x=..., y=...\); texts as np.array"),
        ({"x": X, "y": Y, "classes": np.array(["cat"])}, r"labels must lie in 0\.\.0, got 0\.\.1"),
        ({"x": X, "y": Y, "classes": np.array([1, 2])}, "'classes' must be an array of texts"),
    ],
)
def test_malformed_files_name_file_and_rule(tmp_path: Path, arrays: dict[str, np.ndarray], rule: str):
    np.savez(tmp_path / "mine.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=f"mine.npz.*{rule}") as caught:
        load_dataset(str(tmp_path / "mine.npz"))
    assert "\n" not in str(caught.value)


def test_files_that_are_no_npz(tmp_path: Path):
    path = tmp_path / "mine.npz"
    np.savez(path, x=X, y=Y)
    whole = path.read_bytes()
    np.save(tmp_path / "array.npy", X)
    for content in (b"", b"text", whole[: len(whole) // 2], (tmp_path / "array.npy").read_bytes()):
        path.write_bytes(content)
        with pytest.raises(DataError, match="mine.npz: cannot be read as .npz") as caught:
            load_dataset(str(path))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (8, 1, "'x.npy' is encrypted"),  # flags of the first member in the zip's directory
        (10, 99, "compression method is not supported"),
        (16, 0, "Bad CRC-32 for file 'x.npy'"),
    ],
)
def test_a_damaged_member_is_one_line(tmp_path: Path, place: int, value: int, said: str):
    path = tmp_path / "mine.npz"
    np.savez(path, x=X, y=Y)
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + place] = value
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"mine.npz: cannot be read as .npz .*{said}") as caught:
        load_dataset(str(path))
    assert "\n" not in str(caught.value)
