"""Lines in words: the tables of a level, as cells of text that ``writing.py`` turns into Markdown and LaTeX."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from cosp.report.units import MISSING, duration, quantity
from cosp.tables.lengths import by, lead_from_s
from cosp.tables.lines import (
    BACKDOOR,
    CHOSEN,
    DEEPEST,
    FIELDS,
    STALENESS,
    TO_TARGET_S,
    VERSIONS_TO_TARGET,
    Line,
    Measure,
    exit_accuracy,
    line_of,
)
from cosp.tables.outcome import Outcome
from cosp.tables.spread import Spread

OVER = "‡"
NOT_APART = "≈"
UNTRAINED = "†"
BESIDE = "beside"
AHEAD = "ahead for good"
BUDGETS = {("memory_share", "parameters"): "memory_used", ("memory_share", "flops"): "memory_used",
           ("rate", "parameters"): "capacity_used"}  # fmt: skip
"""Assignment rule and what a keep ratio counts -> what is measured of the budget that the two give."""


@dataclass(frozen=True)
class Sheet:
    title: str
    head: Sequence[str]
    lines: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Context:
    """What every column knows: the variant to compare with, the accuracy to reach, and what is measured of the budget
    that the base's assignment rule gives, None where nothing is.
    """

    reference: str
    target: float | None
    budget: str | None


Column = Callable[[Line, Context], str]


def level_sheets(lines: Sequence[Line], context: Context, title: str) -> list[Sheet]:
    """Return accuracy, accuracy of every exit, and cost, one line a variant."""
    target, exits = context.target, sorted({block for line in lines for block in line.exits})
    each = {f"after block {block}": _marked(_three(exit_accuracy(block)), _place_of(block)) for block in exits}
    costs = (
        COSTS if target is None else {f"time to {target:.0%}": _time_to, f"versions to {target:.0%}": _count_to} | COSTS
    )
    accuracy = _accuracy(context.reference, line_of(lines, context.reference))
    if any(line.has_backdoor for line in lines):
        accuracy = {**accuracy, "backdoor": _three(BACKDOOR)}
    groups: dict[str, Mapping[str, Column]] = {"accuracy": accuracy, "every exit": each, "cost": costs}
    return [_sheet(": ".join(filter(None, (title, name))), columns, lines, context) for name, columns in groups.items()]


def overview_sheet(levels: Mapping[str, Sequence[Line]]) -> Sheet:
    """Return the chosen exit's accuracy of every variant at every level, and its mean over the levels."""
    by_level = {name: {line.variant: line.spread(CHOSEN, None) for line in lines} for name, lines in levels.items()}
    variants = list(dict.fromkeys(variant for found in by_level.values() for variant in found))
    rows = []
    for variant in variants:
        found = [spreads.get(variant) for spreads in by_level.values()]
        means = [one.mean for one in found if one]
        mean = f"{sum(means) / len(means):.3f}" if len(means) == len(found) else MISSING
        rows.append([variant, *(_mean_sd(one, "{:.3f}") for one in found), mean])
    return Sheet("all levels: accuracy of the chosen exit", ["variant", *by_level, "mean"], rows)


def beside_sheet(levels: Mapping[str, Sequence[Line]], reference: str) -> Sheet:
    """Return by how much the chosen exit of every other variant differs from that of ``reference``, at every level."""
    variants = dict.fromkeys(line.variant for lines in levels.values() for line in lines if line.variant != reference)
    rows = []
    for variant in variants:
        pairs = [(line_of(lines, variant), line_of(lines, reference)) for lines in levels.values()]
        rows.append([variant, *(_difference(line, to) for line, to in pairs)])
    return Sheet(f"all levels: {BESIDE} {reference}", ["variant", *levels], rows)


def lengths_sheet(lines: Sequence[Line], reference: str, lengths_s: Sequence[float], level: str) -> Sheet:
    """Return the chosen exit's accuracy by each of these virtual times, what it differs from that of ``reference``
    then, and from when on ``reference`` is ahead for good.
    """
    to = line_of(lines, reference)
    rows = []
    for line in lines:
        cells = []
        for measure in map(by, lengths_s):
            told = _mean_sd(line.spread(measure, None), "{:.3f}")
            beside = MISSING if line is to else _difference(line, to, measure)
            cells.append(told if beside == MISSING else f"{told} ({beside})")
        rows.append([line.variant, *cells, MISSING if to is None or line is to else _lead(to, line)])
    head = ["variant", *(f"by {duration(length_s)}" for length_s in lengths_s), f"{reference} {AHEAD}"]
    return Sheet(": ".join(filter(None, (level, "accuracy by time"))), head, rows)


def _lead(line: Line, other: Line) -> str:
    lead_s = lead_from_s(line, other)
    if lead_s is None:
        return "never"
    return f"from {duration(lead_s)}" if lead_s else "throughout"


def search_sheet(found: Mapping[str, Sequence[Outcome]], chosen: Mapping[str, str], edges: Mapping[str, str]) -> Sheet:
    """Return what the search tried and chose; keys are "level variant"."""
    rows = [
        [
            name,
            chosen[name] or MISSING,
            edges.get(name) or MISSING,
            ", ".join(f"{one.settings}: {one.valid:.3f}" for one in tried),
        ]
        for name, tried in found.items()
    ]
    return Sheet(
        "search: validation accuracy of the chosen exit",
        ["variant", "chosen", "at an edge of what was tried", "tried"],
        rows,
    )


def _sheet(title: str, columns: Mapping[str, Column], lines: Sequence[Line], context: Context) -> Sheet:
    rows = [[line.variant, *(column(line, context) for column in columns.values())] for line in lines]
    return Sheet(title, ["variant", *columns], rows)


def _mean_sd(found: Spread | None, form: str) -> str:
    if found is None:
        return MISSING
    return form.format(found.mean) + (f" ± {form.format(found.sd)}" if found.sd is not None else "")


def _three(measure: Measure) -> Column:
    """Return mean and standard deviation with three decimals."""
    return lambda line, context: _mean_sd(line.spread(measure, context.target), "{:.3f}")


def _place_of(block: int) -> Callable[[Outcome], int | None]:
    """Return what tells the place of the exit after ``block``, None where there is none."""
    return lambda outcome: outcome.exits.index(block) if block in outcome.exits else None


def _marked(column: Column, place: Callable[[Outcome], int | None]) -> Column:
    """Return ``column`` with a sign where the exit at ``place`` stands, with any seed, behind an untrained block."""

    def marked(line: Line, context: Context) -> str:
        places = ((outcome, place(outcome)) for outcome in line.outcomes.values())
        behind = any(number is not None and outcome.behind_untrained(number) for outcome, number in places)
        return column(line, context) + (f" {UNTRAINED}" if behind else "")

    return marked


def untrained_notes(levels: Mapping[str, Sequence[Line]]) -> list[str]:
    """Return for each line that has blocks which nobody trained: which, and with which of its seeds."""
    found = []
    for name, lines in levels.items():
        for line in lines:
            seeds = {seed: outcome.untrained for seed, outcome in line.outcomes.items() if outcome.untrained}
            if seeds:
                blocks = "; ".join(
                    f"block {', '.join(map(str, which))} with seed "
                    f"{', '.join(str(seed) for seed, one in seeds.items() if one == which)}"
                    for which in dict.fromkeys(seeds.values())
                )
                of = "all seeds" if len(seeds) == len(line.outcomes) else f"{len(seeds)} of {len(line.outcomes)} seeds"
                found.append(f"{' '.join(filter(None, (name, line.variant)))}: {blocks} ({of})")
    return found


def _interval(line: Line, context: Context) -> str:
    """Return the interval as far as an accuracy can lie: what is cut off holds none, so it covers as often."""
    found = line.spread(CHOSEN, None)
    if found is None or found.half is None:
        return MISSING
    low, high = found.range(0.0, 1.0)
    return f"{low:.3f} to {high:.3f}"


def _beside(reference: Line | None) -> Column:
    """Return the difference to that line, of all others."""
    return lambda line, context: MISSING if line is reference else _difference(line, reference)


def _difference(line: Line | None, reference: Line | None, measure: Measure = CHOSEN) -> str:
    """Return the mean difference of the chosen exits and half of its interval, with a sign if that holds zero."""
    found = line.beside(reference, measure, None) if line and reference else None
    if found is None:
        return MISSING
    if found.half is None:
        return f"{found.mean:+.3f}"
    return f"{found.mean:+.3f} ± {found.half:.3f}" + (f" {NOT_APART}" if abs(found.mean) <= found.half else "")


def _mean(measure: Measure, text: Callable[[float], str]) -> Column:
    def column(line: Line, context: Context) -> str:
        found = line.spread(measure, context.target)
        return MISSING if found is None else text(found.mean)

    return column


def _seeds_that(line: Line, found: Spread) -> str:
    """Say how many seeds a mean is of, if not of all."""
    return "" if found.count == len(line.outcomes) else f" ({found.count} of {len(line.outcomes)})"


def _time_to(line: Line, context: Context) -> str:
    found = line.spread(TO_TARGET_S, context.target)
    return "not reached" if found is None else duration(found.mean) + _seeds_that(line, found)


def _count_to(line: Line, context: Context) -> str:
    found = line.spread(VERSIONS_TO_TARGET, context.target)
    return "not reached" if found is None else f"{found.mean:.0f}" + _seeds_that(line, found)


def _share_of_budget(name: str) -> Column:
    """Return the most that any board, with any seed, used of what it is allowed, with a sign if that is too much."""

    def column(line: Line, context: Context) -> str:
        most = max(getattr(outcome, name) for outcome in line.outcomes.values())
        return f"{most:.2f}" + (OVER if name == context.budget and most > 1 + 1e-9 else "")

    return column


def _accuracy(name: str, reference: Line | None) -> Mapping[str, Column]:
    """Return the columns of accuracy; ``name`` is the variant that others are compared with, ``reference`` its line."""
    return {
        "chosen exit": _marked(_three(CHOSEN), lambda outcome: outcome.chosen_exit),
        "95 % interval": _interval,
        f"{BESIDE} {name}": _beside(reference),
        "best version": _three(FIELDS["best"]),
        "deepest exit": _marked(_three(DEEPEST), lambda outcome: len(outcome.exits) - 1),
        "mean of exits": _three(FIELDS["mean_of_exits"]),
        "macro F1": _three(FIELDS["macro_f1"]),
        "loss": _three(FIELDS["loss"]),
        "own data": _three(FIELDS["local_mean"]),
        "own data, worst tenth": _three(FIELDS["local_worst"]),
        "own data, as received": _three(FIELDS["received_mean"]),
        "seeds": lambda line, context: str(len(line.outcomes)),
    }


COSTS: dict[str, Column] = {
    "memory used": _share_of_budget("memory_used"),
    "capacity used": _share_of_budget("capacity_used"),
    "peak memory": _mean(FIELDS["peak_bytes"], lambda value: quantity(value, "B")),
    "mean over boards": _mean(FIELDS["mean_peak_bytes"], lambda value: quantity(value, "B")),
    "virtual time": _mean(FIELDS["virtual_s"], duration),
    "versions": _mean(FIELDS["versions"], "{:.0f}".format),
    "updates": _mean(FIELDS["updates"], "{:.0f}".format),
    "staleness": _mean(STALENESS, "{:.2f}".format),
    "drift": _mean(FIELDS["drift"], "{:.2f}".format),
    "utilisation": _mean(FIELDS["utilisation"], "{:.2f}".format),
    "down": _mean(FIELDS["bytes_down"], lambda value: quantity(value, "B")),
    "up": _mean(FIELDS["bytes_up"], lambda value: quantity(value, "B")),
    "energy": _mean(FIELDS["energy_j"], lambda value: quantity(value, "J")),
}
NOTES = {
    "chosen exit": "the exit with the best validation accuracy; test accuracy, mean ± standard deviation over seeds",
    "95 % interval": "of the mean of the chosen exit, by Student's t over seeds, as far as it lies from 0 to 1",
    BESIDE: "the chosen exit less that variant's at the same seed: mean ± half of its 95 % interval; "
    f"{NOT_APART}: zero lies within it, the two are not apart",
    "best version": "the chosen exit at the version with the best validation accuracy",
    "own data": "mean over clients of their latest trained submodel's accuracy on their own held-back data; the worst "
    "tenth is the lowest decile over clients; as received is before training",
    "memory used": "the most that any board held, in training or scoring, of its keep ratio times what plain training "
    "of the whole model takes",
    "capacity used": "the most that any board trained of its keep ratio times the model's parameters",
    "staleness": "mean age of merged updates in versions",
    "drift": "distance of updates to their weighted mean, as a share of their length (0: all are the same, 1: they "
    "cancel out); mean over rounds with more than one update",
    "utilisation": "share of all boards' time spent computing or transferring",
}  # fmt: skip
OF_LENGTHS = (
    "the chosen exit at the last evaluation within that virtual time, mean ± standard deviation over seeds; in "
    "brackets what it differs from the line that all are compared with. *Ahead for good*: from when on that line's "
    "mean over seeds stays above this one's; a dot in the figure"
)
OF_BACKDOORS = "share of test samples of other classes that are taken for the backdoor's once they bear its trigger"
