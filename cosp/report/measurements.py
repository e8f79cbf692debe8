"""What real boards said of themselves while they worked, a row a board; what nothing measured is no column."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, median

from cosp.report.rows import Arrival, Client, Run
from cosp.report.units import MISSING, duration, percent, quantity

Figure = Callable[[Sequence[Arrival]], str | None]
"""Returns what a board's tasks say, None if they say nothing."""

NOTE = (
    "Over the whole task, by the board's own kernel. Busy cores and network are the machine's, whoever used them: the "
    "network since the task before, beside what the task's weights and update are counted with."
)


@dataclass(frozen=True, kw_only=True)
class Measurements:
    columns: tuple[str, ...]
    rows: tuple[tuple[Client, tuple[str, ...]], ...]
    note: str = NOTE


def measurements(run: Run, clients: Sequence[Client]) -> Measurements | None:
    """Return the table of ``clients``; None where no board measured anything beside its steps and memory."""
    by_client = {client.client: [row for row in run.arrivals if row.client == client.client] for client in clients}
    found = {
        name: [figure(by_client[client.client]) for client in clients]
        for name, figure in {**VITALS, **PREDICTED}.items()
    }
    measured = [name for name in VITALS if any(text is not None for text in found[name])]
    if not measured:
        return None
    shown = [name for name in found if name in measured or PARTNER.get(name) in measured]
    texts = [tuple(found[name][i] or MISSING for name in shown) for i in range(len(clients))]
    return Measurements(columns=tuple(shown), rows=tuple(zip(clients, texts, strict=True)))


def _values(rows: Sequence[Arrival], key: str) -> list[float]:
    return [value for row in rows if (value := getattr(row, key)) is not None]


def _each(key: str, fold: Callable[[list[float]], float], text: Callable[[float], str]) -> Figure:
    def figure(rows: Sequence[Arrival]) -> str | None:
        values = _values(rows, key)
        return text(fold(values)) if values else None

    return figure


def _pair(down: str, up: str) -> Figure:
    def figure(rows: Sequence[Arrival]) -> str | None:
        received, sent = _values(rows, down), _values(rows, up)
        return f"↓ {quantity(median(received), 'B')} ↑ {quantity(median(sent), 'B')}" if received and sent else None

    return figure


NETWORK, COUNTED = "network, a task", "counted"
VITALS: dict[str, Figure] = {
    "CPU time, a task": _each("wall_cpu_s", fmean, duration),
    "busy cores": _each("wall_cpu_share", fmean, percent),
    "clock": _each("wall_frequency_hz", fmean, lambda value: quantity(value, "Hz")),
    "hottest": _each("wall_temperature_c", max, lambda value: f"{value:.0f} °C"),
    "slowed down": _each("wall_throttled_share", fmean, percent),
    NETWORK: _pair("wall_received_bytes", "wall_sent_bytes"),
}
PREDICTED: dict[str, Figure] = {COUNTED: _pair("bytes_down", "bytes_up")}
PARTNER = {COUNTED: NETWORK}
"""What is shown only beside what was measured."""
