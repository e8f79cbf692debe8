"""Faults at random moments: a worker, the fork server or the run itself killed, or a disk full; then ``--resume``.

The rows must be those of a run that nothing happened to, to the byte, and nothing may be left behind. ``-m slow`` tries
twenty moments of each kind (``COSP_FAULTS``); the default suite kills workers and whole runs elsewhere.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import yaml
from tiny_runs import TINY
from waiting import PATIENCE_S, until

pytestmark = [pytest.mark.integration, pytest.mark.slow]

COSP = [sys.executable, "-m", "cosp.cli"]
TIMES = int(os.environ.get("COSP_FAULTS", "20"))
CONFIG = {**TINY, "server": {"versions": 8, "quorum": 0.5, "checkpoint_every": 2}}


def moments(*kinds: str) -> list[tuple[str, int]]:
    """Return a seed for each moment."""
    return [(kind, seed) for kind in kinds for seed in range(TIMES)]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("config") / "tiny.yaml"
    path.write_text(yaml.safe_dump(CONFIG), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def whole(config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that nothing happens to."""
    out = tmp_path_factory.mktemp("whole") / "run"
    subprocess.run(
        [*COSP, "run", str(config), "--out", str(out), "--no-report", "--workers", "2"], check=True, capture_output=True
    )
    return out


def resume(out: Path) -> None:
    """Go on until the run has ended; whatever happened, once is enough."""
    done = subprocess.run(
        [*COSP, "run", "--resume", str(out), "--no-report", "--workers", "2"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def rows(folder: Path) -> bytes:
    return (folder / "rows.jsonl").read_bytes()


def check(out: Path, whole: Path, scratch: Path) -> None:
    assert rows(out) == rows(whole)
    until(lambda: not started_in(scratch))
    assert sorted(path.name for path in scratch.iterdir() if path.name.startswith("cosp")) == []


def started_in(scratch: Path) -> list[psutil.Process]:
    """Return the processes that have ``scratch`` as their folder of temporary files."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("TMPDIR") == str(scratch) and process.pid != os.getpid():
                found.append(process)
        except psutil.Error:
            continue
    return found


def victim(run: psutil.Process, kind: str) -> psutil.Process | None:
    """Return whom to kill; None while there is none yet."""
    if kind == "parent":
        return run
    servers = [one for one in run.children() if any("forkserver" in word for word in one.cmdline())]
    if kind == "fork server" or not servers:
        return servers[0] if servers else None
    workers = servers[0].children()
    return workers[0] if workers else None


@pytest.mark.parametrize(("kind", "seed"), moments("worker", "fork server", "parent"))
def test_a_killed_process_costs_no_byte(
    kind: str, seed: int, config: Path, whole: Path, scratch: Path, tmp_path: Path
) -> None:
    out, count = tmp_path / "run", len(rows(whole).splitlines())
    after = random.Random(f"{kind} {seed}").randrange(6, count)
    words = [*COSP, "run", str(config), "--out", str(out), "--no-report", "--workers", "2"]
    with subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        run = psutil.Process(process.pid)
        until(lambda: process.poll() is not None or ((out / "rows.jsonl").exists() and lines(out) >= after))
        if process.poll() is None and (found := victim(run, kind)) is not None:
            found.kill()
        said = process.communicate(timeout=PATIENCE_S)[1]
    if process.returncode != 0:
        assert "Traceback" not in said
        resume(out)
    check(out, whole, scratch)


def lines(out: Path) -> int:
    return rows(out).count(b"\n")


FULL = """
mount -t tmpfs -o size={size}k tmpfs {full} || exit 90
{run}
code=$?
mount -o remount,size=200m {full} || exit 91
test $code = 0 || {resume} || exit 92
cp -r {out}/. {copy}
exit $code
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small disk, which root alone may")
@pytest.mark.parametrize(("kind", "seed"), moments("out", "TMPDIR", "/dev/shm"))
def test_a_full_disk_costs_no_byte(
    kind: str, seed: int, config: Path, whole: Path, scratch: Path, tmp_path: Path
) -> None:
    full = {"out": tmp_path / "disk", "TMPDIR": scratch / "full", "/dev/shm": Path("/dev/shm")}[kind]
    full.mkdir(exist_ok=True)
    out = full / "run" if kind == "out" else tmp_path / "run"
    out.parent.mkdir(exist_ok=True)
    most_kb = sum(path.stat().st_size for path in whole.rglob("*")) // 1024 if kind == "out" else 1024
    size = random.Random(f"{kind} {seed}").randrange(24, max(25, most_kb))
    set_tmpdir = f"TMPDIR={full} " if kind == "TMPDIR" else ""
    cosp = set_tmpdir + " ".join(COSP)
    run = f"{cosp} run {config} --out {out} --workers 2"
    script = FULL.format(
        size=size,
        full=full,
        out=out,
        copy=tmp_path / "copy",
        run=run,
        resume=f"{{ test -d {out} && {cosp} run --resume {out} --workers 2 || {run}; }}",
    )
    (tmp_path / "copy").mkdir()
    done = subprocess.run(
        ["unshare", "-m", "--propagation", "private", "sh", "-c", script], capture_output=True, text=True
    )
    assert done.returncode in (0, 1, 2), done.stderr
    assert "Traceback" not in done.stderr
    check(tmp_path / "copy", whole, scratch)
