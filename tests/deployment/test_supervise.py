"""Real processes: what dies is started again and leaves nothing behind; what is stopped goes for good."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from waiting import PATIENCE_S, until

from cosp.deployment import supervise
from cosp.deployment.supervise import Service


def alive(pid: int) -> bool:
    with suppress(ProcessLookupError):
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    return False


def pids(path: Path) -> list[int]:
    return [int(line) for line in path.read_text().splitlines()] if path.exists() else []


@contextmanager
def supervised(*services: Service) -> Iterator[None]:
    stop = threading.Event()
    thread = threading.Thread(target=supervise.supervise, args=(services, os.environ), kwargs={"stop": stop})
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(PATIENCE_S)
    assert not thread.is_alive()


def family(path: Path, *, with_children: bool = True) -> Service:
    """A service that writes its pid and its child's, one a line, and waits."""
    script = f"sleep 600 & echo $$ >> {path}; echo $! >> {path}; wait"
    return Service(name="family", command=("/bin/sh", "-c", script), with_children=with_children)


def test_what_dies_is_started_again_without_what_it_had_started(tmp_path, capfd):
    with supervised(family(tmp_path / "pids")):
        until(lambda: len(pids(tmp_path / "pids")) == 2)
        parent, child = pids(tmp_path / "pids")
        os.kill(parent, signal.SIGKILL)
        until(lambda: len(pids(tmp_path / "pids")) == 4)
        until(lambda: not alive(child))
    assert "family ended (SIGKILL); starting it again in" in capfd.readouterr().err
    until(lambda: not any(alive(pid) for pid in pids(tmp_path / "pids")))  # killed as a group, gone a moment later


def test_children_may_outlive_a_restart(tmp_path):
    with supervised(family(tmp_path / "pids", with_children=False)):
        until(lambda: len(pids(tmp_path / "pids")) == 2)
        parent, child = pids(tmp_path / "pids")
        os.kill(parent, signal.SIGKILL)
        until(lambda: len(pids(tmp_path / "pids")) == 4)
        assert alive(child)
    os.kill(child, signal.SIGKILL)


def test_what_never_stays_is_tried_again_with_growing_pauses(tmp_path, monkeypatch):
    monkeypatch.setattr(supervise, "PAUSES_S", (0.0, 0.1, 0.4))
    times = tmp_path / "times"
    script = f"import time; open({str(times)!r}, 'a').write(f'{{time.monotonic()}}\\n'); raise SystemExit(3)"
    with supervised(Service(name="short", command=(sys.executable, "-c", script))):
        until(lambda: times.exists() and len(times.read_text().splitlines()) >= 4)
    seen = [float(line) for line in times.read_text().splitlines()]
    assert seen[1] - seen[0] >= 0.1
    assert seen[2] - seen[1] >= 0.4
    assert seen[3] - seen[2] >= 0.4


@pytest.mark.parametrize("stubborn", [False, True])
def test_stopping_ends_the_whole_group(tmp_path, monkeypatch, stubborn):
    monkeypatch.setattr(supervise, "GRACE_S", 1.0)
    service = family(tmp_path / "pids")
    if stubborn:
        script = "trap '' TERM; " + service.command[2].replace("wait", "while :; do wait; done")
        service = Service(name="stubborn", command=("/bin/sh", "-c", script))
    with supervised(service):
        until(lambda: len(pids(tmp_path / "pids")) == 2)
    until(lambda: not any(alive(pid) for pid in pids(tmp_path / "pids")))
