"""Which classes each client holds: the partition figure, in the size and colours of the page."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.patches import Patch

from cosp.report.figure_accuracy import board_height
from cosp.report.style import WIDE, colour, rows_of

# Paul Tol's "light" and "muted" schemes (sronpersonalpages.nl/~pault): told apart with any colour vision, calm in bulk.
_COLOURS = (
    "#77aadd", "#ee8866", "#eedd88", "#ffaabb", "#99ddff", "#44bb99", "#bbcc33", "#aaaa00", "#c9b8d8", "#b5a08a",
    "#332288", "#88ccee", "#117733", "#999933", "#ddcc77", "#cc6677", "#882255", "#aa4499", "#6699cc", "#44aa99",
)  # fmt: skip


def class_figure(
    class_counts: Sequence[Sequence[int]], client_names: Sequence[str], class_names: Sequence[str]
) -> Figure:
    """``partition_figure`` of cosp.data; ``class_counts`` is (clients, classes)."""
    from cosp.data.figure import partition_figure  # only here, so that a report of other figures needs no data package

    figure = partition_figure(class_counts, client_names, class_names)
    figure.set_size_inches(WIDE, max(board_height(len(client_names)), 2.6))
    (axes,) = figure.axes
    rows_of(axes, client_names)
    if len(axes.containers) <= len(_COLOURS):
        marks = [mark for legend in figure.legends for mark in legend.legend_handles]
        for bars, mark, fill in zip(axes.containers, marks, _COLOURS, strict=False):
            for patch in (*bars, mark):
                if isinstance(patch, Patch):
                    patch.set(facecolor=fill, edgecolor=colour("surface"))
    return figure
