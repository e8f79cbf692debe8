"""From a configuration to a model: what goes together and what does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from cosp.config import load_config
from cosp.errors import ConfigError
from cosp.experiment import Experiment, load_experiment
from cosp.fleet._files import devices_folder
from cosp.models import SeriesShape, TextShape, ViTShape

IMAGES = {"shape": [3, 8, 8], "classes": 5, "samples_per_client": 10}
TEXTS = {"shape": [7], "vocabulary": 50, "classes": 5, "samples_per_client": 10}
SERIES = {"shape": [12, 9], "classes": 5, "samples_per_client": 10}
WIDTHS = {"dim": 8, "blocks": 2, "heads": 2, "hidden": 16, "exits": [1, 2]}


def experiment(folder: Path, declared: dict[str, Any], **model: Any) -> Experiment:
    config = {
        "name": "tiny",
        "data": {"name": "mine", "declared": declared},
        "model": {**WIDTHS, **model},
        "method": {"name": "fedavg"},
    }
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return load_experiment(load_config(path))


def test_images_and_series_are_cut_into_patches_and_texts_read_word_by_word(tmp_path: Path):
    encoder: dict[str, Any] = {**WIDTHS, "classes": 5, "exits": (1, 2)}
    assert experiment(tmp_path, IMAGES, patch=4).shape == ViTShape(image=8, patch=4, channels=3, **encoder)
    assert experiment(tmp_path, SERIES, patch=4).shape == SeriesShape(steps=12, patch=4, channels=9, **encoder)
    assert experiment(tmp_path, TEXTS).shape == TextShape(vocabulary=50, length=7, **encoder)


def test_clients_hold_as_many_samples_on_average_as_declared_by_their_shares(tmp_path: Path):
    found = experiment(tmp_path, IMAGES, patch=4)
    held = [len(train) + len(test) for train, test in found.rows]
    assert sum(held) == 10 * 16
    shares = [board.shares for board in found.boards]
    assert max(abs(count - 160 * share / sum(shares)) for count, share in zip(held, shares, strict=True)) < 1


def test_mixed_precision_asks_for_the_rate_of_every_gpu(tmp_path: Path):
    """A CPU needs none: it trains in float32."""
    nano = yaml.safe_load((devices_folder() / "jetson-nano.yaml").read_text(encoding="utf-8"))
    del nano["eta0_half"]
    for mode in nano["modes"].values():
        del mode["peak_half_gflops"]
    (tmp_path / "old-nano.yaml").write_text(yaml.safe_dump(nano), encoding="utf-8")
    config = {
        "name": "tiny",
        "data": {"name": "mine", "declared": IMAGES},
        "model": {**WIDTHS, "patch": 4},
        "method": {"name": "fedavg"},
        "training": {"precision": "mixed"},
    }
    for device, message in ((str(tmp_path / "old-nano.yaml"), "old-nano would train in"), ("raspberry-pi-5", None)):
        path = tmp_path / "tiny.yaml"
        path.write_text(yaml.safe_dump({**config, "fleet": {"boards": [{"device": device, "link": "ethernet"}]}}))
        if message is None:
            assert not load_experiment(load_config(path)).introductions[0].gpu
            continue
        with pytest.raises(ConfigError, match=rf"^training.precision: mixed is what {message}.*or take float32$"):
            load_experiment(load_config(path))


@pytest.mark.parametrize(
    ("declared", "model", "message"),
    [
        (IMAGES, {}, "model.patch: is missing: mine has images"),
        (TEXTS, {"patch": 4}, "model.patch: mine has texts, which have no patches"),
        (IMAGES, {"patch": 3}, "model: patch must divide image, got patch 3, image 8"),
        ({**IMAGES, "shape": [3, 8, 4]}, {"patch": 4}, "images of 8 x 4; they must be square"),
        ({**IMAGES, "vocabulary": 9}, {"patch": 4}, "data.declared: vocabulary goes with texts"),
        ({**TEXTS, "vocabulary": None}, {}, "data.declared: vocabulary goes with texts"),
        ({**IMAGES, "shape": [8, 8, 3, 1]}, {"patch": 4}, "data.declared.shape"),
        ({**SERIES, "vocabulary": 9}, {"patch": 4}, "data.declared: vocabulary goes with texts"),
        (SERIES, {}, "model.patch: is missing: mine has series of 12 steps"),
        (SERIES, {"patch": 5}, "model: patch must divide the steps of a series, got patch 5, 12 steps"),
        ({**IMAGES, "shape": [1, 12, 9]}, {"patch": 3}, "if they are series of 12 steps, say data.kind: series"),
    ],
)
def test_what_does_not_go_together_is_an_error_of_one_line(tmp_path: Path, declared, model, message):
    with pytest.raises(ConfigError, match=message) as caught:
        experiment(tmp_path, declared, **model)
    assert "\n" not in str(caught.value)


def test_what_is_declared_is_of_the_kind_that_is_asked_for(tmp_path: Path):
    path = tmp_path / "tiny.yaml"
    data = {"name": "mine", "kind": "series", "declared": IMAGES}
    config = {"name": "tiny", "data": data, "model": {**WIDTHS, "patch": 4}, "method": {"name": "fedavg"}}
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"kind is series, but declared.shape \[3, 8, 8\] is that of images"):
        load_config(path)
    assert load_experiment(load_config(path, ["data.declared.shape=[8, 3]"])).dataset.kind == "series"


def test_an_error_of_a_variant_names_it(tmp_path: Path):
    (tmp_path / "tiny.yaml").write_text("""
name: tiny
data: {name: mine, declared: {shape: [3, 8, 8], classes: 5, samples_per_client: 10}}
fleet: {boards: [{count: 2, device: jetson-nano, link: wifi, keep: 0.5}]}
model: {patch: 4, dim: 8, blocks: 2, heads: 2, hidden: 16}
method: {name: co-s2p}
variants:
  weak: {"fleet": {boards: [{count: 2, device: jetson-nano, link: wifi, keep: 0.01}]}}
  uncut: {model.patch: null}
""", encoding="utf-8")  # fmt: skip
    weak = load_experiment(load_config(tmp_path / "tiny.yaml", ["variant=weak"]))
    told = r"^variant weak: client 0 \(jetson-nano, wifi\): keep: no submodel fits \d+ parameters: .* raise the ratio$"
    with pytest.raises(ConfigError, match=told):
        weak.method(weak.introductions)
    with pytest.raises(ConfigError, match=r"^variant uncut: model.patch: is missing"):
        load_experiment(load_config(tmp_path / "tiny.yaml", ["variant=uncut"]))
