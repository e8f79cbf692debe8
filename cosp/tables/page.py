"""The page of a table: what ran, where, with which versions, and how to run it again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from cosp.report.units import duration
from cosp.tables.outcome import Outcome
from cosp.tables.plan import TablePlan

FIGURES = {
    "accuracy": "Accuracy of the chosen exit over virtual time: mean over seeds, and one standard deviation. "
    "The line that others are compared with, in black, is in every panel.",
    "memory": "Accuracy against the boards' mean peak memory. The line joins those that no other beats in both.",
    "utilisation": "Utilisation of the fleet.",
    "staleness": "Ages of merged updates.",
}


def page(
    plan: TablePlan,
    title: str,
    outcomes: Sequence[Outcome],
    failed: Mapping[str, str],
    figures: Mapping[str, Sequence[Path]],
    again: str,
) -> str:
    """Return ``index.md``; ``figures`` are those of each level by its name."""
    told = {
        "Runs": f"{len(outcomes)}, of {len({one.variant for one in outcomes})} variants"
        + (f" at {', '.join(figures)}" if plan.settings.grid else ""),
        "Seeds": plan.seeds_text + (f"; search on {plan.search_seed}" if _searches(plan) else ""),
        "Wall time of all runs": duration(sum(outcome.wall_s for outcome in outcomes)),
        "Machine": _counted(f"{one.cpu}, {one.cores} cores, {one.system}" for one in outcomes),
        "Versions": _counted(one.libraries for one in outcomes),
        "Commit": _counted(one.commit for one in outcomes),
        "Again": f"`{again}`: runs what is missing in `cells.csv`, or was changed",
    }
    parts = [f"# {title}", "\n".join(f"- {name}: {text}" for name, text in told.items()),
             "[Tables](table.md), [for LaTeX](table.tex), [every measure](table.csv), [every run](cells.csv), "
             "[every evaluation](points.csv)"]  # fmt: skip
    if failed:
        parts += ["## Failed", "\n".join(f"- {name}: {text.strip().splitlines()[-1]}" for name, text in failed.items())]
    for level, paths in figures.items():
        parts += [f"## {level}"] if level else []
        parts += [f"{FIGURES[path.stem.partition('-')[0]]}\n\n![{path.stem}]({path.name})" for path in paths]
    return "\n\n".join(parts) + "\n"


def _searches(plan: TablePlan) -> bool:
    return any(len(plan.candidates(variant)) > 1 for variant in plan.variants)


def _counted(texts: Iterable[str]) -> str:
    """Return what is the same for all, or each with how many runs it is of."""
    counts = Counter(texts)
    return "; ".join(text if len(counts) == 1 else f"{text} ({count} runs)" for text, count in sorted(counts.items()))
