"""The page of what benchmarks/adaptation.py measured."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import yaml

from cosp.adaptation.corruptions import CORRUPTIONS, SEVERITIES
from cosp.tables.spread import Spread, paired, spread

Cell = dict[str, Any]
NONE, LABELS = "none", "labels_"
RULES = ("entropy_band", "tail", "disagreement", "labels_band", "labels_tail", "labels_disagreement")
DOWN = (
    ("labels_band", "labels_whole", "1 %"),
    ("random", "whole", "1 %"),
    ("tenth", "whole", "0.1 %"),
)
NEAR = 0.5  # points
SMOOTHED = 5
"""Windows at the end of a stream that tell what is back by then."""
SPARING = 0.051
"""Share of samples that five in a hundred may come to, arrivals being random."""
HEAD = (
    "line", "stream accuracy", "less none", "less random", "loss back", "at the end", "90 % back", "worst window",
    "worst board", "clean after", "sent up", "kB up", "kB down", "J", "refused",
)  # fmt: skip


def page(spec: Mapping[str, Any], cells: Sequence[Cell], severities: Sequence[Cell]) -> str:
    """Return the page as Markdown."""
    sets = list(dict.fromkeys(cell["data"] for cell in cells))
    parts = [_intro(spec, cells, sets), _terms()]
    for stream, its in spec["streams"].items():
        there = [cell for cell in cells if cell["stream"] == stream]
        if there:
            parts += [f"## The stream `{stream}`", _stream(its), _lines(its, there)]
        for name in sets:
            mine = [cell for cell in there if cell["data"] == name]
            if mine:
                parts += [
                    f"### {name}, {stream}",
                    _filled(spec["told"].get(name, "")),
                    _table(its, mine),
                    _findings(mine),
                ]
    parts += ["## How hard a severity is"]
    parts += [_severity_table(name, [each for each in severities if each["data"] == name]) for name in sets]
    return "\n\n".join(part for part in parts if part) + "\n"


def _intro(spec: Mapping[str, Any], cells: Sequence[Cell], sets: Sequence[str]) -> str:
    runs = "\n".join(f"{spec['runs'][name]}  # {name}" for name in sets)
    seconds = sum(cell["cpu_s"] for cell in cells)
    return (
        "# After deployment: what it brought\n\n"
        + _filled(spec["found"])
        + "\n\n"
        + _filled(
            "Boards of one trained run serve a stream of samples that it was not trained on. All boards share one "
            "adapted model, without trial or canaries. Labels measure; only the lines `labels_...` learn from them, an "
            "oracle's answer to the samples that came up. Seeds are of the stream: arrivals, orders, corruptions; the "
            "model is one. Lines of one seed meet the same samples in the same order, so differences are paired; what "
            "follows ± is half a 95 % interval of the mean over seeds (Student's t), which three seeds make wide."
        )
        + f"\n\n```sh\npython benchmarks/adaptation_data.py OUT\n{runs}\n"
        "python benchmarks/adaptation.py measure SET:RUN ... --stream STREAM  # goes on where it stopped\n"
        "python benchmarks/adaptation.py severities SET:RUN ...\npython benchmarks/adaptation.py page\n```\n\n"
        + _filled(
            f"{len(cells)} cells, {seconds / 60:.0f} CPU minutes. The page is written from "
            "`experiments/results/adaptation/` by the last command."
        )
    )


def _terms() -> str:
    return (
        _filled(
            "*less none*, *less random*: difference in stream accuracy to these lines (`labels_...` to "
            "`labels_random`), in points. *loss back*: of what `none` lost against the accuracy on clean samples "
            "while they were not, the share that the line won, of sums over seeds. *at the end*: the same, of the "
            f"last {SMOOTHED} windows. *90 % back*: minutes from the first shift on until that share was 0.9 over "
            f"{SMOOTHED} windows, by seed. *clean after*: "
            "accuracy on the run's test data at the end, mean of the boards, and how that changed. *sent up*: of all "
            "samples. kB and J are a board's. *refused*: steps that a guard undid."
        )
        + "\n\n"
        + _filled(
            "A stream draws its samples again and again. So an oracle's labels tell of images that come again, "
            "otherwise corrupted: the lines `labels_...` are upper bounds, and what they get right on clean images "
            "afterwards is no measure of others."
        )
    )


def _stream(its: Mapping[str, Any]) -> str:
    """Return what the boards of a stream meet, in words."""
    stream, upload = its["base"]["stream"], its["base"]["upload"]
    drift, severities = stream["drift"], stream["drift"]["severities"]
    order = "all boards go" if drift.get("together") else "every board goes"
    own = "one order, drawn by seed" if drift.get("together") else "an order of its own"
    how = (
        f"severity {severities[0]}" if len(severities) == 1 else f"each of severities {', '.join(map(str, severities))}"
    )
    return _filled(
        f"{stream['until_s'] / 60:g} virtual minutes of the run's test images, {stream['per_s']:g} a second and board. "
        f"They are clean for {drift['clean_s'] / 60:g} minutes; then {order} through the eight corruptions in {own}, "
        f"{drift['every_s']:g} s at {how}, as far as time goes. At the end of each {stream['window_s']:g} s "
        f"a board sends {upload['samples']} samples (`fill`, so that rules are compared at equal numbers of samples)."
    )


def _lines(its: Mapping[str, Any], cells: Sequence[Cell]) -> str:
    there = {cell["line"] for cell in cells}
    rows = "\n".join(f"| `{name}` | {_changes(changes)} |" for name, changes in its["lines"].items() if name in there)
    absent = [f"`{name}`" for name in its["lines"] if name not in there]
    missing = f"In benchmarks/adaptation.yaml, and not measured yet: {', '.join(absent)}." if absent else ""
    base = {"upload": its["base"]["upload"], "adapt": its["base"]["adapt"], "download": its["base"]["download"]}
    told = yaml.safe_dump(base, default_flow_style=None, width=110, sort_keys=False)
    return (
        f"```yaml\n{told}```\n\n| line | what it changes |\n|---|---|\n{rows}"
        + (f"\n\n{_filled(missing)}" if missing else "")
    )  # fmt: skip


def _filled(text: str) -> str:
    return "\n\n".join(textwrap.fill(" ".join(each.split()), 120) for each in text.strip().split("\n\n"))


def _changes(changes: Mapping[str, Any]) -> str:
    return ", ".join(f"`{key}: {value}`" for key, value in changes.items()) or "nothing"


def _severity_table(data: str, found: Sequence[Cell]) -> str:
    if not found:
        return ""
    rows = [
        f"| {name} | " + " | ".join(f"{fmean(each[name][s - 1] for each in found):.3f}" for s in SEVERITIES) + " |"
        for name in CORRUPTIONS
    ]
    head = f"| {data}, clean {fmean(each['clean'] for each in found):.3f} | "
    return head + " | ".join(map(str, SEVERITIES)) + " |\n|---|" + "---|" * len(SEVERITIES) + "\n" + "\n".join(rows)


def _table(its: Mapping[str, Any], cells: Sequence[Cell]) -> str:
    lines = [line for line in its["lines"] if any(cell["line"] == line for cell in cells)]
    rows = [_row(line, cells, its["base"]["stream"]["window_s"]) for line in lines]
    return "\n".join(["| " + " | ".join(HEAD) + " |", "|" + "---|" * len(HEAD), *rows])


def _row(line: str, cells: Sequence[Cell], window_s: float) -> str:
    mine = _of(line, cells)

    def mean(key: str) -> float:
        return fmean(cell[key] for cell in mine.values())

    boards = next(iter(mine.values()))["boards"]
    clean = fmean(cell["clean_accuracy"]["after"] for cell in mine.values())
    change = clean - fmean(cell["clean_accuracy"]["before"] for cell in mine.values())
    fields = (
        f"`{line}` ({len(mine)})",
        _figure(spread([cell["stream_accuracy"] for cell in mine.values()]), points=False),
        _less(line, NONE, cells),
        _less(line, control_of(line), cells),
        _share(line, cells),
        _share(line, cells, last=SMOOTHED),
        "" if line == NONE else ", ".join(_minutes(line, cells, seed, window_s) for seed in mine),
        f"{mean('worst_window_accuracy'):.3f}",
        f"{mean('worst_board_accuracy'):.3f}",
        f"{clean:.3f} ({100 * change:+.1f})",
        f"{mean('uploaded_share'):.1%}",
        f"{mean('bytes_up') / boards / 1000:.1f}",
        f"{mean('bytes_down') / boards / 1000:.1f}",
        f"{mean('energy_j') / boards:.0f}",
        f"{mean('refused'):.0f}",
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
    clean = fmean(none["windows"][:first]) if first else none["clean_accuracy"]["before"]
    return mine["windows"][first:], none["windows"][first:], clean


def back(line: str, cells: Sequence[Cell], *, last: int = 0) -> float | None:
    """Return the share that ``line`` won of what none lost, of sums over seeds; in the ``last`` windows (0: in all)."""
    found = [each for seed in _of(line, cells) if (each := _drifted(line, cells, seed)) is not None]
    won = sum(fmean(mine[-last:]) - fmean(none[-last:]) for mine, none, _ in found)
    lost = sum(clean - fmean(none[-last:]) for _, none, clean in found)
    return won / lost if lost > 0 else None


def _minutes(line: str, cells: Sequence[Cell], seed: int, window_s: float) -> str:
    """Return how long after the first shift 90 % of the loss was back, over ``SMOOTHED`` windows."""
    found = _drifted(line, cells, seed)
    if found is None:
        return "?"
    mine, none, clean = found
    for end in range(SMOOTHED, len(mine) + 1):
        got, lost = fmean(mine[end - SMOOTHED : end]), fmean(none[end - SMOOTHED : end])
        if clean - got <= 0.1 * (clean - lost):
            return f"{end * window_s / 60:g}"
    return "never"


def _share(line: str, cells: Sequence[Cell], *, last: int = 0) -> str:
    found = None if line == NONE else back(line, cells, last=last)
    return "" if found is None else f"{found:.2f}"


def _findings(cells: Sequence[Cell]) -> str:
    """Return what was asked for, as sentences made of the figures."""
    said = []
    for rule in RULES:
        found = difference(rule, control_of(rule), cells)
        if found is not None:
            said.append(f"`{rule}` against `{control_of(rule)}`, at equal numbers of samples: {_verdict(found)}")
    for line, of, name in DOWN:
        found = difference(line, of, cells)
        if found is not None:
            within = "within" if found.mean >= -NEAR else "not within"
            told = " (one seed)" if found.half is None else ""
            said.append(
                f"`{line}`, whose messages take {name} of whole weights at most, against `{of}`: "
                f"{_figure(found, points=True)} points, {within} {NEAR:g}{told}"
            )
    sparing = [
        (share, line)
        for line in dict.fromkeys(cell["line"] for cell in cells)
        if line != NONE and (share := back(line, cells)) is not None
        if fmean(cell["uploaded_share"] for cell in _of(line, cells).values()) <= SPARING
    ]
    for what, some in (
        ("without labels", [each for each in sparing if not each[1].startswith(LABELS)]),
        ("with an oracle's", [each for each in sparing if each[1].startswith(LABELS)]),
    ):
        if some and max(some)[0] > 0:
            share, line = max(some)
            ends = back(line, cells, last=SMOOTHED)
            assert ends is not None
            said.append(
                f"Most of the loss won back at 5 % of samples sent up, {what}: `{line}`, {share:.0%} over all, "
                f"{ends:.0%} at the end"
            )
    return "\n".join(textwrap.fill(f"- {each}", 120, subsequent_indent="  ") for each in said)


def _verdict(found: Spread) -> str:
    figure = f"{_figure(found, points=True)} points"
    if found.half is None:
        return f"{figure}, one seed: nothing can be said"
    if abs(found.mean) <= found.half:
        return f"{figure}: not told apart"
    return f"{figure}: {'better' if found.mean > 0 else 'worse'} by more than the interval"
