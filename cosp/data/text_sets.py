"""Data sets of texts known by name, as their common copies lie in files: AG News, SST-2 and 20 Newsgroups."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from cosp.data.columns import Columns
from cosp.data.images import Source
from cosp.data.text_files import read_table, split_files
from cosp.data.text_source import text_source
from cosp.errors import DataError

NEWSGROUPS = (
    "alt.atheism", "comp.graphics", "comp.os.ms-windows.misc", "comp.sys.ibm.pc.hardware", "comp.sys.mac.hardware",
    "comp.windows.x", "misc.forsale", "rec.autos", "rec.motorcycles", "rec.sport.baseball", "rec.sport.hockey",
    "sci.crypt", "sci.electronics", "sci.med", "sci.space", "soc.religion.christian", "talk.politics.guns",
    "talk.politics.mideast", "talk.politics.misc", "talk.religion.misc",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class TextSet:
    """Where a set lies below the data folder, its columns and the names of its labels, in order."""

    folders: tuple[str, ...]
    files: str
    columns: Columns
    classes: Mapping[str | int, str]
    hub: str


TEXT_SETS = {
    "ag_news": TextSet(
        folders=("ag_news", "ag_news_csv"),
        files="train.csv and test.csv",
        # the description alone: the titles are missing in a common copy of the training half
        columns=Columns(text="description", label="label", names=("label", "title", "description")),
        classes={1: "World", 2: "Sports", 3: "Business", 4: "Sci/Tech"},
        hub="hf:fancyzhx/ag_news",
    ),
    "sst2": TextSet(
        folders=("sst2", "SST-2"),
        files="train.tsv and test.tsv",
        columns=Columns(text="sentence", label="label"),
        classes={0: "negative", 1: "positive"},
        hub="hf:stanfordnlp/sst2 and data.text: sentence",
    ),
    "20newsgroups": TextSet(
        folders=("20newsgroups", "20_newsgroups"),
        files="train.jsonl and test.jsonl",
        # other headers than the subject name the group, or who writes where
        columns=Columns(text="text", label="y", strip="headers"),
        classes=dict(enumerate(NEWSGROUPS)),
        hub="hf:SetFit/20_newsgroups",
    ),
}


def read_text_set(name: str, *, data_dir: Path | None, columns: Columns) -> Source:
    """One of TEXT_SETS; what ``columns`` says goes before the set's own."""
    known = TEXT_SETS[name]
    folders = [] if data_dir is None else [data_dir / folder for folder in known.folders]
    found = (split_files(folder) for folder in folders if folder.is_dir())
    files = next((files for files in found if {"train", "test"} <= set(files)), None)
    if files is None:
        where = f"not in {', '.join(map(str, folders))}" if folders else "no data folder was given"
        raise DataError(
            f"{name}: looked for {known.files} (.gz, .xz): {where}; point --data-dir DIR or COSP_DATA_DIR at a folder "
            f"with them, or use {known.hub} with network"
        )
    merged = replace(known.columns, **columns.given())
    tables = {role: [read_table(path, merged.names) for path in paths] for role, paths in files.items()}
    # with another label column, its own values are the classes
    classes = known.classes if merged.label == known.columns.label else None
    return text_source(name, tables, columns=merged, classes=classes)
