"""The process that runs a table's cells."""

from __future__ import annotations

import gc
import signal
import weakref
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from cosp.tables import running


class Run:
    """Refers to itself, as a run does by its callbacks: only the garbage collector frees it."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture
def no_collection_by_itself() -> Iterator[None]:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    gc.disable()
    yield
    gc.enable()
    for number, handler in zip((signal.SIGINT, signal.SIGTERM), before, strict=True):
        signal.signal(number, handler)


@pytest.mark.usefixtures("no_collection_by_itself")
def test_a_cell_s_memory_is_free_before_the_next_one_begins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    runs: list[weakref.ref[Run]] = []
    alive: list[list[bool]] = []

    def run_cell(*given: object, **named: object) -> None:
        alive.append([run() is not None for run in runs])
        runs.append(weakref.ref(Run()))

    cells = [SimpleNamespace(name=f"cell{number}", config=SimpleNamespace(server=None)) for number in range(3)]

    def receive() -> SimpleNamespace:
        if not cells:
            raise EOFError
        return cells.pop()

    sent: list[object] = []
    monkeypatch.setattr(running, "run_cell", run_cell)
    running._work(SimpleNamespace(recv=receive, send=sent.append), tmp_path, 0, None)
    assert sent == [(1.0, "")] * 3
    assert alive == [[], [False], [False, False]]
