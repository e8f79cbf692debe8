"""What a board's trainer reads of an experiment, or of the board's own images."""

from __future__ import annotations

import numpy as np
import pytest
import yaml

from cosp.config import load_config
from cosp.data.sources import read_source
from cosp.deployment.store import refuse_inside_data, write_own, write_shares
from cosp.errors import DataError, UserError
from cosp.experiment import Experiment, load_experiment
from cosp.trainer.store import open_board_store

CONFIG = {
    "name": "tiny",
    "data": {"name": "digits", "train": 200, "validation": 50, "test": 100, "partition": {"kind": "iid"}},
    "fleet": "equal4",
    "model": {"patch": 4},
    "method": {"name": "co-s2p"},
}


@pytest.fixture
def experiment(tmp_path) -> Experiment:
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(CONFIG))
    return load_experiment(load_config(tmp_path / "tiny.yaml"))


def own(tmp_path, x, labels, names) -> str:
    np.savez(tmp_path / "own.npz", x=x, y=labels, classes=np.array(names))
    return str(tmp_path / "own.npz")


def test_each_share_holds_the_client_s_rows_in_their_order(experiment, tmp_path):
    folders = write_shares(experiment, tmp_path / "stores")
    assert [folder.name for folder in folders] == ["0", "1", "2", "3"]
    for folder, (train, test) in zip(folders, experiment.rows, strict=True):
        store = open_board_store(folder)
        assert store.recipe.classes == tuple("0123456789")
        for samples, rows in ((store.samples.train, train), (store.samples.test, test)):
            assert samples.x.tobytes() == experiment.dataset.train.x[rows].tobytes()
            assert samples.y.tolist() == experiment.dataset.train.y[rows].tolist()


def test_own_images_are_normalised_and_named_as_the_server_s(experiment, tmp_path):
    x = np.arange(10 * 64, dtype=np.uint8).reshape(10, 8, 8) % 17
    path = own(tmp_path, x, np.array([0, 1] * 5), ["7", "3"])
    write_own(experiment, read_source(path, data_dir=None, image_size=None), tmp_path / "store")
    store = open_board_store(tmp_path / "store")
    train, test = store.samples.train, store.samples.test
    assert (len(train.y), len(test.y)) == (8, 2)
    assert sorted([*train.y, *test.y]) == [3] * 5 + [7] * 5
    mean, std = experiment.dataset.mean[0], experiment.dataset.std[0]
    expected = {((image - mean) / std).astype(np.float32).round(4).tobytes() for image in x.astype(float)}
    assert {image[0].round(4).tobytes() for image in [*train.x, *test.x]} == expected


def test_own_images_of_an_unknown_class_or_another_size_are_refused(experiment, tmp_path):
    strange = own(tmp_path, np.ones((4, 8, 8)), np.array([0, 1, 0, 1]), ["7", "cat"])
    with pytest.raises(DataError, match="class 'cat' is none of digits's: 0, 1, 2"):
        write_own(experiment, read_source(strange, data_dir=None, image_size=None), tmp_path / "store")
    large = own(tmp_path, np.ones((4, 9, 9)), np.array([0, 1, 0, 1]), ["7", "3"])
    with pytest.raises(DataError, match=r"samples are images \(9, 9, 1\), those of digits images \(8, 8, 1\)"):
        write_own(experiment, read_source(large, data_dir=None, image_size=None), tmp_path / "store")


def test_own_series_are_normalised_as_the_server_s(tmp_path):
    x = np.random.default_rng(0).normal((5, 1e5), (2, 3), (60, 8, 2))
    np.savez(tmp_path / "moves.npz", x=x, y=np.arange(60) % 3)
    data = {"name": str(tmp_path / "moves.npz"), "kind": "series", "partition": {"kind": "iid", "min_samples": 1}}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump({**CONFIG, "data": data, "model": {"patch": 2}}))
    experiment = load_experiment(load_config(tmp_path / "tiny.yaml"))
    path = own(tmp_path, x[:10], np.array([0, 1] * 5), ["2", "0"])
    write_own(experiment, read_source(path, data_dir=None, image_size=None, kind="series"), tmp_path / "store")
    store = open_board_store(tmp_path / "store")
    train, test = store.samples.train, store.samples.test
    assert sorted([*train.y, *test.y]) == [0] * 5 + [2] * 5
    expected = (x[:10] - experiment.dataset.mean) / experiment.dataset.std
    found = np.concatenate([train.x, test.x])
    assert sorted(found[:, 0, 0]) == pytest.approx(sorted(expected[:, 0, 0]), rel=1e-5)
    images = own(tmp_path, np.ones((4, 8, 8)), np.array([0, 1, 0, 1]), ["2", "0"])
    with pytest.raises(DataError, match=r"samples are images \(8, 8, 1\), those of moves series \(8, 2\)"):
        write_own(experiment, read_source(images, data_dir=None, image_size=None), tmp_path / "store")


def test_stores_are_not_written_into_the_data(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    for out in (photos, photos / "stores"):
        with pytest.raises(UserError, match="lies in the data .*photos, .*; give another --out"):
            refuse_inside_data(out, "digits", None, str(photos))
    refuse_inside_data(tmp_path / "stores", "digits", None, str(photos))
