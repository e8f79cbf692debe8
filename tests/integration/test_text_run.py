"""A text model learns real texts through the whole of a run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris, load_wine

pytestmark = pytest.mark.integration

WORDS = 12  # of a text


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
