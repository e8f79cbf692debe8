"""How a run ends that is not left to end by itself: real processes, real signals, small machines."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from tiny_runs import TINY
from waiting import PATIENCE_S, until

pytestmark = pytest.mark.integration

COSP = [sys.executable, "-m", "cosp.cli"]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(TINY), encoding="utf-8")
    return path


def heed_interrupts() -> None:  # a shell starts what it puts into the background without
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextmanager
def under_way(config: Path, out: Path, **popen: Any) -> Iterator[tuple[subprocess.Popen[str], list[psutil.Process]]]:
    """Start a long run in a session of its own; yield it after its first checkpoint, with the processes below it."""
    command = [*COSP, "run", str(config), "--out", str(out), "--workers", "1", "--set", "server.versions=50000"]
    popen = {"stderr": subprocess.PIPE, "preexec_fn": heed_interrupts, "start_new_session": True, **popen}
    with subprocess.Popen(command, text=True, **popen) as process:
        try:
            until(lambda: process.poll() is not None or list(out.glob("checkpoint/*.json")))
            assert process.poll() is None, process.stderr and process.stderr.read()
            yield process, psutil.Process(process.pid).children(recursive=True)
        finally:
            process.kill()


def gone(processes: list[psutil.Process]) -> bool:
    """Return whether all have ended within a time."""
    return not psutil.wait_procs(processes, timeout=PATIENCE_S)[1]


def data_folders(scratch: Path) -> list[str]:
    return [path.name for path in scratch.glob("cosp-*")]


def check_end(process: subprocess.Popen[str], below: list[psutil.Process], out: Path, scratch: Path, code: int) -> None:
    said = process.communicate(timeout=PATIENCE_S)[1]
    assert said.splitlines()[-1] == f"cosp: interrupted; go on with: cosp run --resume {out}"
    assert process.returncode == code
    assert "Traceback" not in said
    assert "leaked" not in said
    assert data_folders(scratch) == []
    assert gone(below)


def test_a_directory_in_use_is_refused_in_one_line_until_its_run_is_terminated(
    config: Path, scratch: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    with under_way(config, out) as (process, below):
        rows = (out / "rows.jsonl").read_bytes()
        second = subprocess.run([*COSP, "run", "--resume", str(out)], capture_output=True, text=True, check=False)
        assert second.returncode == 2
        (line,) = second.stderr.splitlines()
        assert line.startswith(f"cosp: {out}: is in use by process {process.pid} (")
        assert (out / "rows.jsonl").read_bytes().startswith(rows)
        assert len(data_folders(scratch)) == 1
        process.send_signal(signal.SIGTERM)
        check_end(process, below, out, scratch, 143)


def test_a_signal_to_all_processes_of_a_run_ends_it_alike(config: Path, scratch: Path, tmp_path: Path) -> None:
    with under_way(config, tmp_path / "run") as (process, below):
        os.killpg(process.pid, signal.SIGTERM)  # as batch systems do
        check_end(process, below, tmp_path / "run", scratch, 143)


def test_ctrl_c_twice_puts_everything_away(config: Path, scratch: Path, tmp_path: Path) -> None:
    with under_way(config, tmp_path / "run") as (process, below):
        for _ in range(3):
            os.killpg(process.pid, signal.SIGINT)
            time.sleep(0.02)
        check_end(process, below, tmp_path / "run", scratch, 130)


def test_a_terminal_that_is_closed_ends_its_run(config: Path, scratch: Path, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()

    def take_terminal() -> None:
        os.login_tty(theirs)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup starts what it runs without

    with under_way(config, tmp_path / "run", preexec_fn=take_terminal, start_new_session=False, stderr=None) as (
        process,
        below,
    ):
        os.close(theirs)
        os.close(ours)
        assert process.wait(PATIENCE_S) == 129
        assert data_folders(scratch) == []
        assert gone(below)


def test_what_a_killed_run_left_is_gone_at_the_next_start(config: Path, scratch: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    with under_way(config, out) as (process, below):
        process.kill()
        said = process.communicate(timeout=PATIENCE_S)[1]
        assert gone(below)
        assert "Traceback" not in said
    assert len(data_folders(scratch)) == 1
    unrelated = scratch / "cosp-of-somebody"
    unrelated.mkdir()
    flags = ["--no-report", "--workers", "1", "--set", "server.versions=1"]
    subprocess.run([*COSP, "run", str(config), "--out", str(tmp_path / "b"), *flags], check=True, capture_output=True)
    assert data_folders(scratch) == [unrelated.name]


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small /dev/shm, which root alone may")
def test_a_small_dev_shm_is_no_hindrance(config: Path, tmp_path: Path) -> None:
    larger = ["model.dim=256", "model.heads=8", "model.hidden=1024", "server.versions=1", "data.train=40"]
    words = [*COSP, "run", str(config), "--out", str(tmp_path / "run"), "--no-report", "--workers", "1"]
    words += [word for text in larger for word in ("--set", text)]
    mount = 'mount -t tmpfs -o size=1m tmpfs /dev/shm && exec "$@"'
    done = subprocess.run(
        ["unshare", "-m", "--propagation", "private", "sh", "-c", mount, "sh", *words], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def limited(limit: str, *words: str) -> subprocess.CompletedProcess[str]:
    command = ["sh", "-c", f'{limit} && exec "$@"', "sh", *COSP, *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_few_open_files_are_enough_for_few_workers(config: Path, tmp_path: Path) -> None:
    flags = ["--no-report", "--workers", "2", "--set", "server.versions=1"]
    done = limited("ulimit -n 64", "run", str(config), "--out", str(tmp_path / "run"), *flags)
    assert done.returncode == 0, done.stderr


def test_too_few_open_files_for_many_workers_are_one_line(config: Path, tmp_path: Path) -> None:
    done = limited("ulimit -n 64", "run", str(config), "--out", str(tmp_path / "run"), "--workers", "40")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    assert "cosp: --workers 40: need about 240 open files, this process may have 64" in done.stderr


def test_a_terminal_that_knows_ascii_alone_gets_ascii(config: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "TERM": "dumb"}
    named = {**TINY, "name": "größe", "title": "Größe ± 3 – 5"}
    config.write_text(yaml.safe_dump(named, allow_unicode=True), encoding="utf-8")
    out = ["--out", str(tmp_path / "run")]
    for words in (["run", str(config), "--dry", *out], ["devices"]):
        done = subprocess.run([*COSP, *words], env=environment, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode(errors="replace")
        assert (done.stdout + done.stderr).isascii()


def test_a_path_too_long_for_sockets_is_one_line(config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / ("long" * 25)
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    done = subprocess.run([*COSP, "run", str(config), "--out", str(tmp_path / "out")], capture_output=True, text=True)
    assert done.returncode == 2
    assert re.fullmatch(r"cosp: TMPDIR: \S+: worker processes cannot be started \(.*\); set TMPDIR .*\n", done.stderr)
