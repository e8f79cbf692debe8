"""Data sets of images, texts or series (built in, standard, the user's own) and their partition over clients."""

from __future__ import annotations

from cosp.data.dataset import Dataset, Split
from cosp.data.declared import consecutive_rows, declared_dataset
from cosp.data.figure import partition_figure
from cosp.data.partition import PartitionScheme, partition
from cosp.data.sources import load_dataset
from cosp.data.splits import Sizes

__all__ = [
    "Dataset",
    "PartitionScheme",
    "Sizes",
    "Split",
    "consecutive_rows",
    "declared_dataset",
    "load_dataset",
    "partition",
    "partition_figure",
]
