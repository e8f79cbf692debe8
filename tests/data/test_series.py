from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cosp.data import load_dataset
from cosp.errors import DataError

Y = np.arange(50) % 2
X = np.random.default_rng(0).normal((10, -2, 1e5), (1, 2, 3), (50, 8, 3))


def with_value(value: float) -> np.ndarray:
    x = X.copy()
    x[3, 5, 1] = value
    return x


def test_series_are_steps_of_channels_each_of_its_own_scale(tmp_path: Path):
    np.savez(tmp_path / "moves.npz", x=X, y=Y)
    dataset = load_dataset(str(tmp_path / "moves.npz"), kind="series")
    assert (dataset.kind, dataset.sample_shape, dataset.vocabulary) == ("series", (8, 3), None)
    assert dataset.train.x.dtype == np.float32
    assert np.allclose(dataset.train.x.mean(axis=(0, 1)), 0, atol=1e-6)
    assert np.allclose(dataset.train.x.std(axis=(0, 1)), 1, atol=1e-6)
    assert np.allclose(dataset.mean, (10, -2, 1e5), atol=0.5)


def test_one_value_a_step_needs_no_third_dimension_and_numbers_of_any_type_do(tmp_path: Path):
    counts = np.arange(50 * 6).reshape(50, 6) % 7
    found = []
    for x in (counts, counts.astype(np.int16), counts.astype(np.float64), counts[..., None].astype(np.float32)):
        np.savez(tmp_path / "moves.npz", x=x, y=Y)
        found.append(load_dataset(str(tmp_path / "moves.npz"), kind="series"))
    assert {dataset.sample_shape for dataset in found} == {(6, 1)}
    assert {dataset.train.x.tobytes() for dataset in found} == {found[0].train.x.tobytes()}


def test_only_training_series_set_the_scale_and_own_test_series_are_used(tmp_path: Path):
    x = np.array([0.0, 2, 0, 2, 0, 2, 0, 2]).reshape(4, 2)
    x = np.concatenate([x] * 10)
    np.savez(tmp_path / "moves.npz", x=x, y=np.arange(40) % 2, x_test=x[:2] + 100, y_test=[0, 1])
    dataset = load_dataset(str(tmp_path / "moves.npz"), kind="series")
    assert (dataset.mean, dataset.std) == ((1.0,), (1.0,))
    assert dataset.test.x[:, :, 0].tolist() == [[99, 101], [99, 101]]


def test_small_changes_of_a_large_value_are_kept(tmp_path: Path):
    """1e9 + 0.25 is no float32, which has steps of 64 there."""
    x = 1e9 + np.arange(50 * 4).reshape(50, 4) % 4 / 4
    np.savez(tmp_path / "moves.npz", x=x, y=Y)
    assert len(np.unique(load_dataset(str(tmp_path / "moves.npz"), kind="series").train.x)) == 4


@pytest.mark.parametrize("constant", [7.0, 0.1, 1e9 + 0.3])
def test_a_constant_channel_becomes_zero(tmp_path: Path, constant: float):
    np.savez(tmp_path / "moves.npz", x=np.stack([X[..., 0], X[..., 0] * 0 + constant], axis=-1), y=Y)
    assert not load_dataset(str(tmp_path / "moves.npz"), kind="series").train.x[..., 1].any()


def test_a_folder_with_train_and_test(tmp_path: Path):
    np.savez(tmp_path / "train.npz", x=X, y=Y)
    np.savez(tmp_path / "test.npz", x=X[:6], y=Y[:6])
    assert load_dataset(str(tmp_path), kind="series").test.x.shape == (6, 8, 3)


def test_without_a_kind_numbers_are_what_they_always_were(tmp_path: Path):
    np.savez(tmp_path / "grey.npz", x=X, y=Y)
    assert load_dataset(str(tmp_path / "grey.npz")).kind == "images"
    np.savez(tmp_path / "words.npz", x=np.arange(50 * 6).reshape(50, 6) % 40, y=Y)
    assert load_dataset(str(tmp_path / "words.npz")).kind == "texts"
    np.savez(tmp_path / "values.npz", x=X[..., 0], y=Y)
    with pytest.raises(DataError, match=r"integers for their words, got float64 .*data\.kind: series"):
        load_dataset(str(tmp_path / "values.npz"))


@pytest.mark.parametrize(
    ("arrays", "rule"),
    [
        ({"x": with_value(np.nan), "y": Y}, "series 3 has nan at step 5, channel 1; fill such gaps"),
        ({"x": with_value(np.inf), "y": Y}, "series 3 has inf at step 5"),
        ({"x": with_value(-1e300), "y": Y}, r"values must lie in -1e\+30\.\.1e\+30, series 3 has -1e\+300"),
        ({"x": X, "y": Y, "x_test": with_value(np.nan), "y_test": Y}, "series 3 has nan"),
        ({"x": X[..., None], "y": Y}, r"numbers of shape \(N, T\[, C\]\), got float64 of shape \(50, 8, 3, 1\)"),
        ({"x": X[:, 0, 0], "y": Y}, "series must be numbers of shape"),
        ({"x": X.astype(str), "y": Y}, "series must be numbers of shape"),
        ({"x": X.astype(complex), "y": Y}, "series must be numbers of shape"),
        ({"x": X, "y": Y[:-1]}, "got 50 series and 49 labels"),
        ({"x": X[:, :0], "y": Y}, "at least one series of at least one value"),
        ({"x": X, "y": Y / 2}, "labels must be"),
        ({"x": X, "y": Y, "x_test": X[:, :4], "y_test": Y}, r"series \(4, 3\), training samples series \(8, 3\)"),
    ],
)
def test_what_is_no_series_names_file_and_rule(tmp_path: Path, arrays: dict[str, np.ndarray], rule: str):
    np.savez(tmp_path / "moves.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=f"moves.npz.*{rule}") as caught:
        load_dataset(str(tmp_path / "moves.npz"), kind="series")
    assert "\n" not in str(caught.value)


def test_other_data_than_the_kind_that_was_asked_for_are_refused(tmp_path: Path):
    with pytest.raises(DataError, match="digits: data.kind is series, but these are images"):
        load_dataset("digits", kind="series")
    np.savez(tmp_path / "moves.npz", x=X, y=Y)
    with pytest.raises(DataError, match=r"must be texts, .*got float64 of shape \(50, 8, 3\)"):
        load_dataset(str(tmp_path / "moves.npz"), kind="texts")
    np.savez(tmp_path / "words.npz", x=np.arange(50 * 6).reshape(50, 6), y=Y)
    with pytest.raises(DataError, match=r"images must be numbers of shape \(N, H, W\[, C\]\), got int64"):
        load_dataset(str(tmp_path / "words.npz"), kind="images")
