"""A run directory -> ``Run``, also for a run that was killed half-way."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from cosp.errors import UserError
from cosp.forms import NO_YAML, yaml_value
from cosp.report.rows import Arrival, Client, Header, Metrics, Round, Run, Scores
from cosp.report.told import told

_KINDS: dict[str, TypeAdapter[Any]] = {
    "run": TypeAdapter(Header),
    "client": TypeAdapter(Client),
    "arrival": TypeAdapter(Arrival),
    "round": TypeAdapter(Round),
}
_METRICS = TypeAdapter(Metrics)
_REMEDY = "rerun `cosp run` to write it anew"


def read_run(run_dir: Path) -> Run:
    """Read ``rows.jsonl``, ``metrics.json`` and ``config.yaml`` of one run.

    A cut last row and missing files of a run that was stopped become ``notices``. Anything else that is wrong, such as
    a directory that holds no run, raises ``UserError`` with file and line.
    """
    notices: list[str] = []
    rows = _read_rows(run_dir / "rows.jsonl", notices)
    (header,) = rows["run"]
    metrics = _read_metrics(run_dir / "metrics.json", header, notices)
    for task in (metrics and metrics.under_way) or ():
        if not any(task.client == client.client for client in rows["client"]):
            raise UserError(f"{run_dir / 'metrics.json'}: under_way: no client {task.client} in rows.jsonl; {_REMEDY}")
    config = _read_config(run_dir / "config.yaml", notices)
    return Run(
        header=header,
        clients=tuple(sorted(rows["client"], key=lambda row: row.client)),
        arrivals=tuple(rows["arrival"]),
        rounds=tuple(rows["round"]),
        metrics=metrics,
        config=config,
        told=told(config),
        notices=tuple(notices),
        corrections=_corrections(run_dir / "profiles"),
    )


def _corrections(folder: Path) -> dict[int, str]:
    """Return by client how its board's profile was mended by what it trained, as its file says."""
    found = {}
    for path in sorted(folder.glob("client-*.yaml")):
        number = path.stem.removeprefix("client-")
        with suppress(OSError, UnicodeDecodeError, *NO_YAML):
            told = yaml_value(path.read_text(encoding="utf-8"))
            if number.isdecimal() and isinstance(told, dict) and isinstance(told.get("calibration"), str):
                found[int(number)] = told["calibration"]
    return found


def _read_rows(path: Path, notices: list[str]) -> dict[str, list[Any]]:
    rows: dict[str, list[Any]] = {kind: [] for kind in _KINDS}
    clients: set[int] = set()
    for number, raw in _lines(path, notices):
        where, kind = f"{path}:{number}", raw.get("kind")
        if (number == 1) != (kind == "run"):
            raise UserError(
                f"{where}: kind is {kind!r}, but row 1 and no other has kind 'run'; is this a run's rows.jsonl?"
            )
        if kind not in _KINDS:
            continue
        row = _parse(raw, _KINDS[kind], where)
        rows[kind].append(row)
        header = rows["run"][0]
        if isinstance(row, Client):
            _check_length(where, "class_counts", row.class_counts, len(header.classes))
            clients.add(row.client)
        elif isinstance(row, Arrival) and row.client not in clients:
            raise UserError(f"{where}: client {row.client} has no row of kind 'client'; {_REMEDY}")
        elif isinstance(row, Round):
            _check_length(where, "coverage", row.coverage, header.blocks)
            if row.evaluation is not None:
                _check_exits(row.evaluation, header, where)
    if not rows["run"]:
        raise UserError(f"{path}:1: no complete row; the run stopped before it began, so start it again")
    return rows


def _parse(raw: Any, adapter: TypeAdapter[Any], where: str) -> Any:
    try:
        return adapter.validate_python(raw)
    except ValidationError as error:
        raise UserError(f"{where}: {_first_fault(error)}; {_REMEDY}") from None


def _check_length(where: str, key: str, found: Sequence[float], length: int) -> None:
    if len(found) != length:
        raise UserError(f"{where}: {key}: must have {length} entries as row 1 says, got {len(found)}; {_REMEDY}")


def _check_exits(scores: Scores, header: Header, where: str) -> None:
    exits = len(header.exits)
    if len(scores.accuracy) != exits or not 0 <= scores.chosen_exit < exits:
        raise UserError(
            f"{where}: accuracy of {len(scores.accuracy)} exits, chosen exit {scores.chosen_exit}, but the run has "
            f"{exits} exits; {_REMEDY}"
        )


def _lines(path: Path, notices: list[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    lines = _text(path).splitlines()
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:  # the latter of a thousand brackets
            if number == len(lines):  # the process was killed while it wrote this row
                notices.append(f"The last row of rows.jsonl (line {number}) is cut and was left out.")
                return
            raise UserError(f"{path}:{number}: not JSON ({error}); is this the rows.jsonl of a run?") from None
        if not (isinstance(row, dict) and isinstance(row.get("kind"), str)):
            raise UserError(f"{path}:{number}: a row must be a JSON object with a kind, got {line[:40]!r}")
        yield number, row


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(
            f"{path.parent}: no run here ({path.name} is missing); give the --out folder of a `cosp run`"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error}); give the --out folder of a `cosp run`") from None


def _read_metrics(path: Path, header: Header, notices: list[str]) -> Metrics | None:
    if not path.exists():
        notices.append("There is no metrics.json: the run has not ended. Figures and totals show what it had written.")
        return None
    try:
        raw = json.loads(_text(path))
    except (ValueError, RecursionError):
        notices.append("metrics.json is cut. Figures and totals come from rows.jsonl alone.")
        return None
    try:
        for name in ("final", "best"):
            result = raw[name] = raw[name] or {}  # a dry run evaluates nothing
            result["scores"] = result.pop("global", None)
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: final or best is missing or is no object ({error}); {_REMEDY}") from None
    metrics: Metrics = _parse(raw, _METRICS, str(path))
    for scores in (metrics.final.scores, metrics.best.scores):
        if scores is not None:
            _check_exits(scores, header, str(path))
    return metrics


def _read_config(path: Path, notices: list[str]) -> str | None:
    if path.exists():
        return _text(path)
    notices.append("There is no config.yaml, so the configuration cannot be shown.")
    return None


def _first_fault(error: ValidationError) -> str:
    """One line: the key, what it must be, what it is."""
    fault = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "missing":
        return f"{key} is missing"
    return f"{key}: {fault['msg'][:1].lower()}{fault['msg'][1:]}, got {fault['input']!r:.60}"
