"""Small tables of texts on disk, and where the shared real ones lie."""

from __future__ import annotations

import bz2
import csv
import gzip
import json
import lzma
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

PACK = {".gz": gzip.compress, ".xz": lzma.compress, ".bz2": bz2.compress}
SHARED = Path(os.environ.get("COSP_DATA_DIR") or Path(__file__).resolve().parents[3] / "shared" / "data")
needs_shared_texts = pytest.mark.skipif(
    not (SHARED / "sst2").is_dir(), reason=f"{SHARED} has no sst2; COSP_DATA_DIR names no folder with the text data"
)

Rows = Sequence[dict[str, Any]]


def write_rows(path: Path, rows: Rows) -> Path:
    """Write rows as the file's name says, packed if it says so."""
    packed = path.suffix in PACK
    plain = path.with_suffix("") if packed else path
    plain.parent.mkdir(parents=True, exist_ok=True)
    if plain.suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(rows)), plain)
    elif plain.suffix == ".jsonl":
        plain.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    elif plain.suffix == ".csv":
        with plain.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    else:
        lines = [list(rows[0]), *(list(map(str, row.values())) for row in rows)]
        plain.write_text("".join("\t".join(line) + "\n" for line in lines), encoding="utf-8")
    if packed:
        path.write_bytes(PACK[path.suffix](plain.read_bytes()))
        plain.unlink()
    return path


def reviews(count: int, label: str = "label") -> list[dict[str, Any]]:
    """Return texts of two classes that a reader could tell apart."""
    words = (("good", "lovely", "fine"), ("bad", "awful", "dull"))
    return [
        {"text": f"a {words[row % 2][row % 3]} film, number {row}", label: ("praise", "blame")[row % 2]}
        for row in range(count)
    ]
