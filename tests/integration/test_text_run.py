"""A text model learns real texts through the whole of a run."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris, load_wine
from tiny_runs import TINY, rows_of

from cosp.cli import main as cli

pytestmark = pytest.mark.integration

WORDS = 12  # of a text
SHARED = Path(os.environ.get("COSP_DATA_DIR") or Path(__file__).resolve().parents[3] / "shared" / "data")


def write_descriptions(path: Path) -> None:
    """Cut the descriptions that come with scikit-learn's data sets into short texts: which data are they of?"""
    words = [load().DESCR.lower().split() for load in (load_breast_cancer, load_diabetes, load_iris, load_wine)]
    number = {word: i for i, word in enumerate(sorted({word for found in words for word in found}))}
    x, y = [], []
    for label, found in enumerate(words):
        for start in range(0, len(found) - WORDS, 3):
            x.append([number[word] for word in found[start : start + WORDS]])
            y.append(label)
    order = np.random.default_rng(0).permutation(len(y))
    np.savez(path, x=np.array(x)[order], y=np.array(y)[order])


def test_a_fleet_learns_to_tell_texts_apart(run: Callable[..., list[dict[str, Any]]], tmp_path: Path):
    write_descriptions(tmp_path / "descriptions.npz")
    rows = run(
        f"data={{name: {tmp_path / 'descriptions.npz'}, partition: {{kind: iid}}}}",
        "model={dim: 16, blocks: 2, heads: 2, hidden: 32, exits: [1, 2]}",
        "method.budget=flops",  # half of the parameters are words, which every board holds
        "training.epochs=5",
    )
    accuracy = [row["evaluation"]["accuracy"][-1] for row in rows if row["kind"] == "round"]
    assert accuracy[0] < 0.5 < accuracy[-1]


def write_sentences(path: Path) -> None:
    """Write the same descriptions as pieces of text, with names as labels."""
    rows = [
        {"text": " ".join(words[start : start + WORDS]), "label": name}
        for load, name in ((load_breast_cancer, "cancer"), (load_diabetes, "diabetes"), (load_wine, "wine"))
        for words in [load().DESCR.split()]
        for start in range(0, len(words) - WORDS, 3)
    ]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["text", "label"])
        writer.writeheader()
        writer.writerows(rows)


def test_a_fleet_learns_from_a_csv_as_it_is(run: Callable[..., list[dict[str, Any]]], tmp_path: Path):
    write_sentences(tmp_path / "descriptions.csv")
    rows = run(
        f"data={{name: {tmp_path / 'descriptions.csv'}, tokens: 24, vocabulary: 600, partition: {{kind: iid}}}}",
        "model={dim: 16, blocks: 2, heads: 2, hidden: 32, exits: [1, 2]}",
        "method.budget=flops",
        "training.epochs=5",
    )
    assert rows[0]["classes"] == ["cancer", "diabetes", "wine"]
    accuracy = [row["evaluation"]["accuracy"][-1] for row in rows if row["kind"] == "round"]
    assert accuracy[0] < 0.6 < accuracy[-1]
    assert (tmp_path / "run" / "tokenizer.json").is_file()


@pytest.mark.skipif(not (SHARED / "sst2").is_dir(), reason=f"{SHARED} has no sst2; give COSP_DATA_DIR")
@pytest.mark.parametrize(("name", "classes"), [("sst2", 2), ("20newsgroups", 20)])
def test_real_texts_train_from_fresh_weights(name: str, classes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    data = {"name": name, "train": 600, "validation": 100, "test": 100, "tokens": 24, "vocabulary": 1500}
    config = TINY | {
        "data": data | {"partition": {"kind": "iid"}},
        "model": {"dim": 16, "blocks": 2, "heads": 2, "hidden": 32, "exits": [1, 2]},
        "method": {"name": "co-s2p", "budget": "flops"},
        "server": {"versions": 2, "quorum": 0.5},
    }
    (tmp_path / "texts.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    arguments = [str(tmp_path / "texts.yaml"), "--data-dir", str(SHARED), "--out", str(tmp_path / "run")]
    monkeypatch.setattr("sys.argv", ["cosp", "run", "--no-report", *arguments])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert not stop.value.code
    rows = rows_of(tmp_path / "run")
    assert len(rows[0]["classes"]) == classes
    assert [row["version"] for row in rows if row["kind"] == "round"] == [0, 1, 2]
    assert json.loads((tmp_path / "run" / "tokenizer.json").read_text())["truncation"]["max_length"] == 24
