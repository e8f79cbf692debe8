"""Images that stay in their files train as images in memory do; the paper's scale, two versions on tiny folders."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cosp.config import load_config
from cosp.errors import DataError
from cosp.experiment import Experiment, load_experiment
from cosp.run.directory import RunDirectory
from cosp.simulation.simulate import simulate

HERE = Path(__file__).parents[2]
CLASSES = 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Write noisy blobs of a colour a class, of unequal sizes, as ImageNet's are."""
    root = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for split, count in (("train", 60), ("test", 10)):
        for label in range(CLASSES):
            place = root / split / f"class{label}"
            place.mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 120, (36 + number % 5, 40, 3))
                pixels[..., label % 3] += 60 + 60 * (label // 3)
                Image.fromarray(pixels.astype(np.uint8)).save(place / f"{number}.png")
    return root


def run(out: Path, name: str, *changes: str, workers: int = 1) -> list[dict]:
    return train(load_experiment(load_config(HERE / "experiments" / name, changes)), out, workers)


def train(experiment: Experiment, out: Path, workers: int = 1) -> list[dict]:
    simulate(experiment, RunDirectory.create(out, experiment.config), workers=workers)
    rows = [json.loads(line) for line in (out / "rows.jsonl").read_text(encoding="utf-8").splitlines()]
    return [{key: value for key, value in row.items() if not key.startswith("wall_")} for row in rows]


def small(folder: Path) -> list[str]:
    return [
        f"data.name={folder}",
        "data.image_size=32",
        "data.validation=20",
        "data.partition={kind: iid, pseudo_clients: false}",
        "fleet=weak16",
        "model.patch=8",
        "server.versions=2",
    ]


def test_streamed_images_train_as_those_in_memory_do(folder, tmp_path):
    held = run(tmp_path / "held", "quickstart.yaml", *small(folder))
    assert run(tmp_path / "streamed", "quickstart.yaml", *small(folder), "data.stream=true", workers=2) == held


@pytest.mark.parametrize(
    "size",
    [
        ["data.image_size=48", "model.dim=48", "model.heads=4", "model.hidden=96", "training.epochs=2"],
        pytest.param(["training.epochs=1", "data.test=8"], marks=pytest.mark.slow, id="ViT-B of 224 x 224 images"),
    ],
)
def test_the_papers_scale_runs_two_versions_on_tiny_folders(folder, tmp_path, size):
    changes = [f"data.name={folder}", "data.validation=8", "data.partition.min_samples=2", "server.versions=2", *size]
    rows = run(tmp_path / "run", "imagenet300.yaml", *changes)
    assert [row["version"] for row in rows if row["kind"] == "round"] == [0, 1, 2]
    assert sum(row["kind"] == "arrival" and row["accepted"] for row in rows) >= 16  # eight close a version
    assert len([row for row in rows if "exits" in row][-1]["exits"]) == 4


@pytest.mark.parametrize("workers", [0, 1])
def test_a_streamed_image_that_cannot_be_read_fails_its_clients_tasks_by_name(folder, tmp_path, workers):
    changes = [*small(folder), "data.stream=true"]
    experiment = load_experiment(load_config(HERE / "experiments/quickstart.yaml", changes))
    broken = experiment.dataset.train.x.paths[int(experiment.rows[0][0][0])]
    kept = broken.read_bytes()
    broken.write_bytes(kept[: len(kept) // 2])
    try:
        rows = train(experiment, tmp_path / "run", workers=workers)
    finally:
        broken.write_bytes(kept)
    failed = [row for row in rows if row["kind"] == "arrival" and not row["accepted"]]
    assert {row["client"] for row in failed} == {0}
    assert all(f"{broken}: cannot be read as an image" in row["detail"] for row in failed)


def test_only_folders_of_images_can_be_streamed(tmp_path):
    with pytest.raises(DataError, match=r"digits: data.stream reads images from folders"):
        load_experiment(load_config(HERE / "experiments/quickstart.yaml", ["data.stream=true"]))
    config = load_config(HERE / "experiments/imagenet300.yaml")
    with pytest.raises(DataError, match=rf"imagenet300: neither .* there is no .* or {tmp_path}/imagenet300"):
        load_experiment(config, data_dir=tmp_path)
