"""Who holds how much of which class, as a figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_NAMED = 20  # classes that still get a colour of their own and a line in the legend


def partition_figure(
    class_counts: Sequence[Sequence[int]], client_names: Sequence[str], class_names: Sequence[str]
) -> Figure:
    """One horizontal bar a client, its length the client's samples, stacked by class; the first client on top.

    ``class_counts``: (clients, classes).
    """
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    counts = np.asarray(class_counts, np.int64)
    if counts.shape != (len(client_names), len(class_names)):
        raise ValueError(
            f"class_counts must be {len(client_names)} clients x {len(class_names)} classes, got {counts.shape}"
        )
    named = len(class_names) <= MOST_NAMED
    figure = Figure(
        figsize=(9, 1.2 + max(0.3 * len(client_names), 0.2 * len(class_names) * named)), layout="constrained"
    )
    axes = figure.add_subplot()
    ends = counts.cumsum(axis=1)
    for number, name in enumerate(class_names):
        colour = colormaps["tab10" if len(class_names) <= 10 else "tab20"](number) if named else None
        colour = colour or colormaps["turbo"](number / (len(class_names) - 1))
        axes.barh(
            range(len(client_names)),
            counts[:, number],
            left=ends[:, number] - counts[:, number],
            height=0.8,
            color=colour,
            edgecolor="white",
            linewidth=0.5 if named else 0.0,
            label=name,
        )
    axes.set_yticks(range(len(client_names)), client_names)
    axes.set_ylim(len(client_names) - 0.5, -0.5)
    axes.set_xlabel("training samples")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    for row, total in enumerate(counts.sum(axis=1)):
        axes.annotate(f"{total:,}", (total, row), (3, 0), textcoords="offset points", va="center", fontsize=8)
    axes.margins(x=0.08)
    if named:
        figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper", frameon=False, title="class")
    else:
        axes.set_title(f"{len(class_names)} classes, from blue (first) to red (last)", fontsize=9)
    return figure
