"""A board's own photos become a store where they are: what the server's reader makes of them, without torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from node import ROOT
from PIL import Image

from cosp.config import checked
from cosp.deployment.store import own_source, write_own
from cosp.errors import DataError, UserError
from cosp.experiment import Experiment, load_experiment
from cosp.recipe import Recipe, read_recipe
from cosp.run.recipe import recipe_of
from cosp.trainer.own import write_own_store
from cosp.trainer.store import open_board_store

MODEL = {"patch": 4, "dim": 8, "blocks": 1, "heads": 2, "hidden": 8}


def photos(folder: Path, classes: tuple[str, ...], count: int = 6, size: int = 8) -> Path:
    """Write pictures, one in three of them turned by its EXIF tag, into a folder a class."""
    rng = np.random.default_rng(len(classes))
    for name in classes:
        (folder / name).mkdir(parents=True)
        for number in range(count):
            image = Image.fromarray(rng.integers(0, 256, (size, size, 3), np.uint8))
            tags = Image.Exif()
            tags[0x0112] = 6 if number % 3 == 0 else 1
            image.save(folder / name / f"{number}.png", exif=tags)
    return folder


def experiment_of(name: str, **data: object) -> Experiment:
    config = {
        "name": "own",
        "data": {"name": name, "partition": {"kind": "iid", "min_samples": 1}, **data},
        "fleet": {"boards": [{"count": 2, "device": "raspberry-pi-5", "link": "wifi"}]},
        "model": MODEL,
        "method": {"name": "co-s2p"},
    }
    return load_experiment(checked(config, "own.yaml"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    return experiment_of(str(photos(tmp_path_factory.mktemp("server") / "all", ("cat", "dog", "owl"), 20)))


def samples(folder: Path) -> list[tuple[bytes, int]]:
    own = open_board_store(folder).samples
    pairs = [*zip(own.train.x, own.train.y, strict=True), *zip(own.test.x, own.test.y, strict=True)]
    return sorted((x.tobytes(), int(y)) for x, y in pairs)


def test_photos_become_what_the_server_s_own_command_makes_of_them(server: Experiment, tmp_path: Path):
    own = photos(tmp_path / "photos", ("owl", "cat"))
    assert write_own_store(own, recipe_of(server), tmp_path / "here") == (10, 2)
    write_own(server, own_source(server, str(own), None), tmp_path / "there")
    assert samples(tmp_path / "here") == samples(tmp_path / "there")
    assert open_board_store(tmp_path / "here").recipe == recipe_of(server)


def test_arrays_and_series_become_so_too(tmp_path: Path):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "moves.npz", x=rng.normal((5, 1e5), (2, 3), (60, 8, 2)), y=np.arange(60) % 3)
    series = experiment_of(str(tmp_path / "moves.npz"), kind="series")
    digits = experiment_of("digits")
    np.savez(tmp_path / "own.npz", x=rng.normal(5, 2, (10, 8, 2)), y=np.array(["2", "0"] * 5))
    np.savez(tmp_path / "pixels.npz", x=rng.integers(0, 17, (10, 8, 8)), y=np.array([0, 1] * 5), classes=["7", "3"])
    for experiment, name in ((series, "own.npz"), (digits, "pixels.npz")):
        write_own_store(tmp_path / name, recipe_of(experiment), tmp_path / "here" / name)
        write_own(experiment, own_source(experiment, str(tmp_path / name), None), tmp_path / "there" / name)
        assert samples(tmp_path / "here" / name) == samples(tmp_path / "there" / name)


def test_photos_for_a_model_of_digits_are_grey_small_and_sixteen_where_they_are_white(tmp_path: Path):
    (tmp_path / "photos" / "3").mkdir(parents=True)
    for number in range(4):
        Image.new("RGB", (30, 30), "white").save(tmp_path / "photos" / "3" / f"{number}.jpg", quality=100)
    recipe = recipe_of(experiment_of("digits"))
    write_own_store(tmp_path / "photos", recipe, tmp_path / "store")
    x = open_board_store(tmp_path / "store").samples.train.x
    assert x.shape[1:] == (1, 8, 8)
    assert recipe.mean is not None
    assert recipe.std is not None
    assert x == pytest.approx((16 - recipe.mean[0]) / recipe.std[0], rel=1e-5)


def test_a_class_that_the_run_has_not_is_named(server: Experiment, tmp_path: Path):
    with pytest.raises(DataError, match="class 'cow' is none of the run's: cat, dog, owl"):
        write_own_store(photos(tmp_path / "photos", ("cow", "cat")), recipe_of(server), tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_what_cannot_be_a_store_is_one_line(server: Experiment, tmp_path: Path):
    recipe = recipe_of(server)
    (tmp_path / "empty").mkdir()
    np.savez(tmp_path / "large.npz", x=np.zeros((4, 9, 9, 3)), y=np.array(["cat"] * 4))
    np.savez(tmp_path / "gaps.npz", x=np.full((4, 8, 8, 3), np.nan), y=np.array(["cat"] * 4))
    (tmp_path / "text.npz").write_text("no arrays")
    own = photos(tmp_path / "photos", ("cat",))
    for source, out, why in (
        (tmp_path / "empty", "store", "no folders named after classes in it"),
        (tmp_path / "large.npz", "store", r"samples are \(9, 9, 3\), the model reads images of \(8, 8, 3\)"),
        (tmp_path / "gaps.npz", "store", "holds NaN or infinity"),
        (tmp_path / "text.npz", "store", "is no folder of images and no .npz"),
        (own, "photos/store", "lies in the data"),
    ):
        with pytest.raises((DataError, UserError), match=why) as caught:
            write_own_store(source, recipe, tmp_path / out)
        assert "\n" not in str(caught.value)
    texts = Recipe(("good", "bad"), (16,), vocabulary=100)
    with pytest.raises(UserError, match="the model reads texts, which `cosp store CONFIG --own` cuts into words"):
        write_own_store(own, texts, tmp_path / "store")


WITHOUT = (
    "import runpy, sys; sys.modules.update(dict.fromkeys(('torch', 'flwr', 'pydantic', 'typer', 'sklearn', 'rich'))); "
)


def test_the_commands_make_it_with_numpy_and_pillow_alone(server: Experiment, tmp_path: Path):
    own = photos(tmp_path / "photos", ("dog", "cat"))
    (tmp_path / "recipe.json").write_text(recipe_of(server).to_json())
    assert read_recipe(tmp_path / "recipe.json") == recipe_of(server)
    words = ["store", str(own), "--recipe", str(tmp_path / "recipe.json"), "--out", str(tmp_path / "store")]
    code = f"{WITHOUT}sys.argv[1:] = {json.dumps(words)}; runpy.run_module('cosp.trainer', run_name='__main__')"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr == f"{tmp_path / 'store'}: 10 samples to train on, 2 held back\n"
    assert len(samples(tmp_path / "store")) == 12
