"""What variants of a run would cost: memory of every board, time and utilisation, one column of plots a model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cosp.report.costs import BoardCost, VariantCost
from cosp.report.style import colour, house_style, legend, percents, quantities, rows_of, run_colour, save_svg, ticks

Costs = Sequence[VariantCost]
PANEL = 5.2  # inches


def draw_memory(found: Costs, path: Path) -> None:
    """Peak memory in training of each kind of board, and what it may use; variants that repeat another are left out."""
    groups = [_different(costs) for costs in _by_model(found)]
    with house_style():
        figure = Figure(figsize=(PANEL * len(groups), 0.9 + 0.13 * _bars(groups)), layout="constrained")
        for axes, costs in zip(_row(figure, len(groups)), groups, strict=True):
            _memory(axes, costs)
        save_svg(figure, path)


def draw_times(found: Costs, path: Path) -> None:
    """Hours that as many updates take as there are clients, and utilisation, of each variant."""
    groups = _by_model(found)
    height = 1.2 + 0.26 * max(map(len, groups))
    with house_style():
        figure = Figure(figsize=(PANEL * 2, height * len(groups)), layout="constrained")
        panels = figure.subplots(len(groups), 2, squeeze=False)
        for (left, right), costs in zip(panels, groups, strict=True):
            _bars_of(left, costs, [cost.turn_s / 3600 for cost in costs], "hours a turn", "{:.3g}")
            _bars_of(right, costs, [cost.utilisation for cost in costs], "utilisation", "{:.2f}")
            right.set_xlim(0, 1)
            right.xaxis.set_major_formatter(percents())
            right.set_yticklabels([])
        save_svg(figure, path)


def _memory(axes: Axes, costs: Costs) -> None:
    kinds = _kinds(costs[0])
    thick = 0.8 / len(costs)
    for number, cost in enumerate(costs):
        values = [board.training_bytes for board in _kinds(cost)]
        at = np.arange(len(kinds)) + (number - (len(costs) - 1) / 2) * thick
        axes.barh(at, values, height=0.9 * thick, color=run_colour(number), label=cost.variant)
    for row, board in enumerate(kinds):
        axes.vlines(board.limit_bytes, row - 0.42, row + 0.42, color=colour("refused"), linewidth=1.6)
    rows_of(axes, [board.board for board in kinds])
    axes.set_xlim(0, 1.08 * max(board.training_bytes for cost in costs for board in cost.boards))
    axes.xaxis.set_major_locator(ticks(6))
    axes.xaxis.set_major_formatter(quantities("B"))
    axes.set_xlabel(f"{costs[0].parameters / 1e6:.1f} M parameters: peak in training; red: what its tasks may hold")
    legend(axes, columns=3, rows=True)


def _bars_of(axes: Axes, costs: Costs, values: Sequence[float], title: str, form: str) -> None:
    rows_of(axes, [cost.variant for cost in costs])
    axes.barh(range(len(costs)), values, height=0.62, color=colour("trained"))
    for row, value in enumerate(values):
        axes.annotate(form.format(value), (value, row), (3, 0), textcoords="offset points", va="center")
    axes.margins(x=0.12)
    axes.set_title(f"{costs[0].parameters / 1e6:.1f} M parameters: {title}", loc="left")


def _by_model(found: Costs) -> list[list[VariantCost]]:
    models = dict.fromkeys(cost.parameters for cost in found)
    return [[cost for cost in found if cost.parameters == parameters] for parameters in models]


def _different(costs: Costs) -> list[VariantCost]:
    first: dict[tuple[int, ...], VariantCost] = {}
    for cost in costs:
        first.setdefault(tuple(board.training_bytes for board in cost.boards), cost)
    return list(first.values())


def _kinds(cost: VariantCost) -> list[BoardCost]:
    """Return one client of each kind of board."""
    first: dict[tuple[str, float | None], BoardCost] = {}
    for board in cost.boards:
        first.setdefault((board.board, board.keep), board)
    return list(first.values())


def _bars(groups: Sequence[Costs]) -> int:
    return max(len(costs) * len(_kinds(costs[0])) for costs in groups)


def _row(figure: Figure, columns: int) -> list[Axes]:
    return list(figure.subplots(1, columns, squeeze=False)[0])
