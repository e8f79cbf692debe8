"""How every figure looks, and how a matplotlib figure becomes inline SVG that follows the page's light or dark mode.

Figures are drawn in the light colours. ``svg`` replaces each by a CSS variable of the page, so one drawing serves both
modes. Text stays text (selectable, in the reader's font). The same figure gives the same bytes.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

from cosp.files import replace_text
from cosp.report.palette import PALETTE
from cosp.report.units import tick

DASHES: tuple[str | tuple[int, tuple[float, ...]], ...] = ("-", (0, (5, 1.6)), (0, (1.4, 1.4)), (0, (6, 1.5, 1.3, 1.5)))
HALF, WIDE = 5.5, 11.3  # widths in inches of a figure in one column and across both

_RC: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "cosp",
    "font.family": "DejaVu Sans",  # ships with matplotlib, so the layout is the same everywhere
    "font.size": 8.0,
    "axes.titlesize": 8.0,
    "axes.labelsize": 8.0,
    "legend.fontsize": 8.0,
    "text.color": PALETTE["ink"][0],
    "axes.labelcolor": PALETTE["muted"][0],
    "axes.edgecolor": PALETTE["grid"][0],
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": PALETTE["grid"][0],
    "grid.linewidth": 0.6,
    "xtick.color": PALETTE["grid"][0],
    "xtick.labelcolor": PALETTE["muted"][0],
    "xtick.major.size": 3,
    "ytick.color": PALETTE["grid"][0],
    "ytick.labelcolor": PALETTE["muted"][0],
    "ytick.major.size": 0,
    "ytick.minor.size": 0,
    "lines.linewidth": 1.5,
    "lines.solid_capstyle": "round",
    "text.parse_math": False,  # a class may be called "$5"
    "legend.frameon": False,
    "legend.labelcolor": PALETTE["ink"][0],
    "patch.linewidth": 0.0,
    "axes.unicode_minus": False,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
}


def colour(name: str) -> str:
    return PALETTE[name][0]


def ramp(position: int, steps: int) -> str:
    """Colour of exit ``position`` of ``steps``, from light (shallow) to dark (deep); the deepest is always darkest."""
    last = 5
    return colour(f"exit{last - round((steps - 1 - position) * last / max(steps - 1, 3))}")


def run_colour(index: int) -> str:
    return colour(f"run{index % 8}")


def run_dashes(index: int) -> str | tuple[int, tuple[float, ...]]:
    return DASHES[index % len(DASHES)]


@contextmanager
def house_style() -> Iterator[None]:
    """Every figure is made and written inside this; it leaves matplotlib's own settings as they were."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_RC)
        yield


def new_figure(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure of ``width`` x ``height`` inches with one pair of axes; no global pyplot state."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def legend(axes: Axes, columns: int, *, rows: bool = False, handles: Sequence[Artist] | None = None) -> None:
    """Above the plot, aligned with its left edge; ``rows`` where marks are short (bars, dots) and not lines."""
    axes.legend(
        handles=handles, loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=columns, borderaxespad=0.4 if rows else 0.6,
        handlelength=1.1 if rows else 1.8, handleheight=0.8, columnspacing=1.4, handletextpad=0.5, borderpad=0.0,
    )  # fmt: skip


def from_zero(axes: Axes) -> None:
    """Let x run from 0 to the last point and hardly further."""
    axes.margins(x=0.015)
    axes.set_xlim(left=0)


def ticks(most: int, *, integer: bool = False) -> MaxNLocator:
    return MaxNLocator(most, steps=[1, 2, 5, 10], integer=integer)


def percents(digits: int | None = 0) -> PercentFormatter:
    """Shares as percentages, with as many ``digits`` behind the point; None: as the axis' range asks for."""
    return PercentFormatter(xmax=1, decimals=digits, symbol=" %")


def quantities(unit: str) -> FuncFormatter:
    return FuncFormatter(lambda value, _: tick(value, unit))


def rows_of(axes: Axes, labels: Sequence[str]) -> None:
    """One horizontal row a board, the first on top."""
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", labelcolor=colour("ink"))


def lay_out(figure: Figure) -> None:
    """Find the figure's layout now and keep it: else it is found twice, and all drawn twice, as it is written."""
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)
        figure.set_layout_engine(None)


def save_svg(figure: Figure, path: Path) -> None:
    """Write a figure of its own. Without a date, and ids from the style's fixed salt: the same bytes once more."""
    text = io.StringIO()
    lay_out(figure)
    figure.savefig(text, format="svg", facecolor=colour("surface"), metadata={"Date": None})
    replace_text(path, text.getvalue())


def svg(figure: Figure, name: str) -> str:
    """``figure`` as an ``<svg>`` element that fills its column; ids inside carry ``name``, so a page may hold many."""
    buffer = io.StringIO()
    lay_out(figure)
    figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    text = re.sub(r' xmlns(:xlink)?="[^"]*"', "", text)  # known to HTML, and this page names no address
    text = text.replace("xlink:href=", "href=")
    text = re.sub(r'<svg [^>]*?(viewBox="[^"]*")[^>]*>', r'<svg \1 aria-hidden="true">', text, count=1)
    text = re.sub(r' id="(?:[A-Za-z0-9]+_)+\d+"', "", text)  # names of groups, which nothing refers to
    text = re.sub(r'(id="|href="#|url\(#)', rf"\g<1>{name}-", text)
    text = re.sub(r"(?<=[\d\n \"]) *\n *(?=[MLCQzHV])", " ", text)
    return re.sub(r"#[0-9a-f]{6}\b", _as_variable, text)


_VARIABLES = {light: name for name, (light, _) in PALETTE.items()}


def _as_variable(match: re.Match[str]) -> str:
    name = _VARIABLES.get(match[0])
    return f"var(--{name}, {match[0]})" if name else match[0]
