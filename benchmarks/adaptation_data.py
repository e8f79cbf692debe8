"""Writes the data sets of benchmarks/adaptation.yaml that no file is of: a natural shift, and words that drift.

    python benchmarks/adaptation_data.py OUT [--data-dir DIR]

``OUT/mnist8.npz``: MNIST shrunk to 8x8 by the means of areas, in the 0..16 of scikit-learn's digits, which then come.
``OUT/news/{train,test}.jsonl``: 20 Newsgroups by their first word (comp, rec, sci, talk), of the groups ``FIRST``;
``OUT/news_later.jsonl``: those of the others, as they come later.
"""

from __future__ import annotations

import json
from argparse import ArgumentParser
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cosp.data.posts import subject_and_body
from cosp.data.standard import read_standard
from cosp.data.text_files import read_table
from cosp.data.text_sets import NEWSGROUPS

SIDE, WHITE = 8, 16
FIRST = (
    "comp.graphics", "comp.os.ms-windows.misc", "comp.sys.ibm.pc.hardware", "rec.autos", "rec.sport.baseball",
    "sci.crypt", "sci.med", "talk.politics.guns", "talk.politics.misc",
)  # fmt: skip
TOPICS = ("comp", "rec", "sci", "talk")


def shrunk(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return images (N, H, W, 1) as the means of ``SIDE`` x ``SIDE`` equal areas, in 0..``WHITE``."""
    rows, columns = (_means(size) for size in images.shape[1:3])
    found = np.einsum("ah,nhw,bw->nab", rows, images[..., 0].astype(np.float32), columns, optimize=True)
    return np.rint(found * (WHITE / 255)).astype(np.uint8)


def _means(size: int) -> NDArray[np.float32]:
    """Return the matrix (SIDE, size) that takes the mean of each area."""
    edges = np.linspace(0, size, SIDE + 1)
    pixel = np.arange(size)
    overlap = np.clip(np.minimum(edges[1:, None], pixel + 1) - np.maximum(edges[:-1, None], pixel), 0, None)
    return (overlap / overlap.sum(axis=1, keepdims=True)).astype(np.float32)


def write_mnist8(out: Path, data_dir: Path) -> None:
    source = read_standard("mnist", data_dir=data_dir)
    assert source.test is not None
    np.savez_compressed(
        out / "mnist8.npz",
        x=shrunk(np.asarray(source.train.x)), y=source.train.y,
        x_test=shrunk(np.asarray(source.test.x)), y_test=source.test.y,
    )  # fmt: skip


def write_news(out: Path, data_dir: Path) -> None:
    (out / "news").mkdir(exist_ok=True)
    later: list[dict[str, str]] = []
    for split in ("train", "test"):
        table = read_table(data_dir / "20newsgroups" / f"{split}.jsonl.xz", None)
        groups = [NEWSGROUPS[int(y)] for y in table.columns["y"]]
        posts = [
            (group, {"text": subject_and_body(text), "label": group.partition(".")[0]})
            for group, text in zip(groups, table.columns["text"], strict=True)
            if group.startswith(TOPICS)
        ]
        posts = [(group, post) for group, post in posts if post["text"].strip()]
        _write(out / "news" / f"{split}.jsonl", (post for group, post in posts if group in FIRST))
        later += [post for group, post in posts if group not in FIRST]
    _write(out / "news_later.jsonl", later)


def _write(path: Path, rows: Iterable[dict[str, str]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--data-dir", type=Path, default=Path("../shared/data"))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    write_mnist8(given.out, given.data_dir)
    write_news(given.out, given.data_dir)


if __name__ == "__main__":
    main()
