"""The page of what benchmarks/adaptation.py measured."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from cosp.adaptation.corruptions import CORRUPTIONS, SEVERITIES
from cosp.tables.spread import Spread, paired, spread

Cell = dict[str, Any]
NONE, LABELS = "none", "labels_"
RULES = ("entropy_band", "tail", "disagreement", "labels_band", "labels_tail", "labels_disagreement")
DOWN = (
    ("labels_band", "labels_whole", "1 %"),
    ("labels_tenth", "labels_whole", "0.1 %"),
    ("entropy_band", "whole", "1 %"),
)
NEAR = 0.5  # points
SMOOTHED = 5
"""Windows over which accuracy is averaged before it is asked when the loss is back."""
HEAD = (
    "line", "stream accuracy", "less none", "less random", "loss back", "worst window", "worst board", "90 % back",
    "clean after", "sent up", "kB up", "kB down", "J", "refused", "server wall s",
)  # fmt: skip


def page(spec: Mapping[str, Any], cells: Sequence[Cell], severities: Sequence[Cell]) -> str:
    """Return the page as Markdown."""
    names = list(dict.fromkeys(cell["data"] for cell in cells))
    parts = [_intro(spec, cells)]
    for name in names:
        mine = [cell for cell in cells if cell["data"] == name]
        parts += [f"## {name}", _severity_table([each for each in severities if each["data"] == name])]
        parts += [_table(spec, mine), *_findings(mine)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _intro(spec: Mapping[str, Any], cells: Sequence[Cell]) -> str:
    base, stream = spec["base"], spec["base"]["stream"]
    seconds = sum(cell["cpu_s"] for cell in cells)
    drift = stream["drift"]
    there = {cell["line"] for cell in cells}
    lines = "\n".join(f"| `{name}` | {_changes(changes)} |" for name, changes in spec["lines"].items() if name in there)
    absent = [f"`{name}`" for name in spec["lines"] if name not in there]
    missing = f"In benchmarks/adaptation.yaml, and not measured yet: {', '.join(absent)}." if absent else ""
    runs = "\n".join(f"{spec['runs'][name]}  # {name}" for name in dict.fromkeys(cell["data"] for cell in cells))
    text = (
        f"Boards of one trained run serve {stream['until_s'] / 60:g} virtual minutes of the run's test images, "
        f"{stream['per_s']:g} a second each. Samples are clean for {drift['clean_s'] / 60:g} minutes; then every board "
        f"goes through the eight corruptions in an order of its own, {drift['every_s']:g} s at each of the "
        f"severities {', '.join(map(str, drift['severities']))}. At the end of each {stream['window_s']:g} s a board "
        f"sends {base['upload']['samples']} samples (`fill`, so that rules are compared at equal numbers of samples). "
        "All boards share one adapted model, without trial or canaries. Labels measure; only the lines `labels_...` "
        "learn from them, an oracle's answer to the samples that came up. Seeds are of the stream: arrivals, orders, "
        "corruptions; the model is one. Lines of one seed meet the same samples in the same order, so differences are "
        "paired; what follows ± is half a 95 % interval of the mean over seeds (Student's t), which three seeds make "
        "wide."
    )
    return (
        "# After deployment: what it brought\n\n"
        + textwrap.fill(text, 120)
        + f"\n\n```sh\n{runs}\npython benchmarks/adaptation.py measure SET:RUN ...  # goes on where it stopped\n"
        "python benchmarks/adaptation.py severities SET:RUN ...\npython benchmarks/adaptation.py page\n```\n\n"
        + textwrap.fill(
            f"{len(cells)} cells, {seconds / 60:.0f} CPU minutes. The page is written from "
            "`experiments/results/adaptation/` by the last command. What each line changes:",
            120,
        )
        + f"\n\n| line | |\n|---|---|\n{lines}\n\n"
        + (textwrap.fill(missing, 120) + "\n\n" if missing else "")
        + textwrap.fill(
            "*less none*, *less random*: difference in stream accuracy to these lines (`labels_...` to "
            "`labels_random`), in points. *loss back*: of what "
            "`none` lost against the clean accuracy while samples were corrupted, the share that the line won. *90 % "
            f"back*: minutes of drift until that share was 0.9 over {SMOOTHED} windows. *clean after*: accuracy on "
            "uncorrupted test images at the end, mean of the boards, and how that changed. *sent up*: of all samples. "
            "kB and J are a board's. *refused*: steps that a guard undid. *server wall s*: on a machine that "
            "others loaded.",
            120,
        )
        + "\n\n"
        + textwrap.fill(
            "The stream draws the run's test images again and again. So an oracle's labels tell of images that come "
            "again, otherwise corrupted: the lines `labels_...` are upper bounds, and what they get right on clean "
            "images afterwards is no measure of others.",
            120,
        )
    )


def _changes(changes: Mapping[str, Any]) -> str:
    return ", ".join(f"`{key}: {value}`" for key, value in changes.items()) or "as above"


def _severity_table(found: Sequence[Cell]) -> str:
    if not found:
        return ""
    rows = [
        f"| {name} | " + " | ".join(f"{fmean(each[name][s - 1] for each in found):.3f}" for s in SEVERITIES) + " |"
        for name in CORRUPTIONS
    ]
    seeds = ", ".join(str(each["seed"]) for each in found)
    return (
        f"Accuracy of the trained model, which nothing adapts, on corrupted test images (seeds {seeds}); clean it is "
        f"{fmean(each['clean'] for each in found):.3f}:\n\n| corruption | "
        + " | ".join(map(str, SEVERITIES)) + " |\n|---|" + "---|" * len(SEVERITIES) + "\n" + "\n".join(rows)
    )  # fmt: skip


def _table(spec: Mapping[str, Any], cells: Sequence[Cell]) -> str:
    lines = [line for line in spec["lines"] if any(cell["line"] == line for cell in cells)]
    rows = [_row(spec, line, cells) for line in lines]
    return "\n".join(["| " + " | ".join(HEAD) + " |", "|" + "---|" * len(HEAD), *rows])


def _row(spec: Mapping[str, Any], line: str, cells: Sequence[Cell]) -> str:
    mine = _of(line, cells)

    def mean(key: str) -> float:
        return fmean(cell[key] for cell in mine.values())

    boards = next(iter(mine.values()))["boards"]
    clean = fmean(cell["clean_accuracy"]["after"] for cell in mine.values())
    change = clean - fmean(cell["clean_accuracy"]["before"] for cell in mine.values())
    shares = [share for share in (_back(line, cells, seed) for seed in mine) if share is not None]
    window_min = spec["base"]["stream"]["window_s"] / 60
    back = [_windows(line, cells, seed) for seed in mine]
    fields = (
        f"`{line}` ({len(mine)})",
        _figure(spread([cell["stream_accuracy"] for cell in mine.values()]), points=False),
        _less(line, NONE, cells),
        _less(line, control_of(line), cells),
        f"{fmean(shares):.2f}" if shares and line != NONE else "",
        f"{mean('worst_window_accuracy'):.3f}",
        f"{mean('worst_board_accuracy'):.3f}",
        "" if line == NONE else ", ".join("never" if end is None else f"{end * window_min:g}" for end in back),
        f"{clean:.3f} ({100 * change:+.1f})",
        f"{mean('uploaded_share'):.1%}",
        f"{mean('bytes_up') / boards / 1000:.1f}",
        f"{mean('bytes_down') / boards / 1000:.1f}",
        f"{mean('energy_j') / boards:.0f}",
        f"{mean('refused'):.0f}",
        f"{mean('wall_server_s'):.1f}",
    )
    return "| " + " | ".join(fields) + " |"


def _of(line: str, cells: Sequence[Cell]) -> dict[int, Cell]:
    return {cell["seed"]: cell for cell in cells if cell["line"] == line}


def control_of(line: str) -> str:
    """Return the line that sends random samples and learns from them alike."""
    return LABELS + "random" if line.startswith(LABELS) else "random"


def difference(line: str, base: str, cells: Sequence[Cell]) -> Spread | None:
    """Return the paired difference in stream accuracy of two lines, in points."""
    mine, other = ({s: 100 * cell["stream_accuracy"] for s, cell in _of(of, cells).items()} for of in (line, base))
    return paired(mine, other)


def _less(line: str, base: str, cells: Sequence[Cell]) -> str:
    return "" if line == base else _figure(difference(line, base, cells), points=True)


def _figure(found: Spread | None, *, points: bool) -> str:
    if found is None:
        return ""
    half = "" if found.half is None else f" ± {found.half:.2f}" if points else f" ± {found.half:.3f}"
    return (f"{found.mean:+.2f}" if points else f"{found.mean:.3f}") + half


def _drifted(line: str, cells: Sequence[Cell], seed: int) -> tuple[list[float], list[float], float] | None:
    """Return accuracies by window of drift of a line and of none, and the accuracy on clean samples."""
    mine, none = _of(line, cells).get(seed), _of(NONE, cells).get(seed)
    if mine is None or none is None:
        return None
    first = mine["clean_windows"]
    return mine["windows"][first:], none["windows"][first:], fmean(none["windows"][:first] or [0.0])


def _back(line: str, cells: Sequence[Cell], seed: int) -> float | None:
    found = _drifted(line, cells, seed)
    if found is None:
        return None
    mine, none, clean = found
    return (fmean(mine) - fmean(none)) / (clean - fmean(none))


def _windows(line: str, cells: Sequence[Cell], seed: int) -> int | None:
    """Return how many windows of drift had passed when 90 % of the loss was back."""
    found = _drifted(line, cells, seed)
    if found is None:
        return None
    mine, none, clean = found
    for end in range(SMOOTHED, len(mine) + 1):
        got, lost = fmean(mine[end - SMOOTHED : end]), fmean(none[end - SMOOTHED : end])
        if clean - got <= 0.1 * (clean - lost):
            return end
    return None


def _findings(cells: Sequence[Cell]) -> list[str]:
    """Return what the issue asked for, as sentences made of the figures."""
    said = []
    for rule in RULES:
        found = difference(rule, control_of(rule), cells)
        if found is not None:
            said.append(f"- `{rule}` against `{control_of(rule)}`, at equal numbers of samples: {_verdict(found)}")
    for line, of, name in DOWN:
        found = difference(line, of, cells)
        if found is not None:
            within = "within" if found.mean >= -NEAR else "not within"
            told = " (one seed)" if found.half is None else ""
            said.append(
                f"- `{line}`, whose messages take {name} of whole weights at most, against `{of}`: "
                f"{_figure(found, points=True)} points, {within} {NEAR:g}{told}"
            )
    for line in [line for line in dict.fromkeys(cell["line"] for cell in cells) if line not in (NONE, "all")]:
        mine = _of(line, cells)
        shares = [share for share in (_back(line, cells, seed) for seed in mine) if share is not None]
        if shares and fmean(shares) >= 0.6 and fmean(cell["uploaded_share"] for cell in mine.values()) <= 0.051:
            said.append(f"- `{line}` won back {fmean(shares):.0%} of the loss with at most 5 % of samples sent up")
    if not any("won back" in each for each in said):
        best = [
            (fmean([share for share in (_back(line, cells, s) for s in _of(line, cells)) if share is not None]), line)
            for line in dict.fromkeys(cell["line"] for cell in cells)
            if line not in (NONE, "all") and any(_back(line, cells, s) is not None for s in _of(line, cells))
        ]
        if best:
            said.append(
                f"- No measured line that sends at most 5 % of samples won back 60 % of the loss; the best, "
                f"`{max(best)[1]}`, {max(best)[0]:.0%}"
            )
    return ["\n".join(textwrap.fill(each, 120, subsequent_indent="  ") for each in said)]


def _verdict(found: Spread) -> str:
    figure = f"{_figure(found, points=True)} points"
    if found.half is None:
        return f"{figure}, one seed: nothing can be said"
    if abs(found.mean) <= found.half:
        return f"{figure}: not told apart"
    return f"{figure}: {'better' if found.mean > 0 else 'worse'} by more than the interval"
