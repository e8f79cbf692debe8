"""A deployment of real processes, started by cosp's own commands: one server, boards with a trainer and a client each.

A board may lie in a network namespace of its own, see ``network.py``; all else is as on a table full of boards.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import psutil
import yaml
from waiting import until

ROOT = Path(__file__).resolve().parents[2]
COSP = (sys.executable, "-m", "cosp.cli")

Row = dict[str, Any]

CONFIG: dict[str, Any] = {
    "name": "boards",
    "data": {"name": "digits", "partition": {"kind": "iid"}},
    "fleet": "equal4",
    "model": {"patch": 4, "dim": 64, "blocks": 4, "heads": 4, "hidden": 256, "exits": [1, 2, 3, 4]},
    "method": {"name": "co-s2p"},
    "training": {"epochs": 3, "batch_size": 16},
    "server": {"versions": 5, "quorum": 1.0, "checkpoint_every": 1},
}
"""Four equal boards learn digits in synchronous rounds: what they learn hangs on nobody's speed."""


class Deployment:
    """Processes of one deployment in ``folder``; use it as a context manager, nothing is left running."""

    def __init__(self, folder: Path, config: Mapping[str, Any], *, address: str = "127.0.0.1") -> None:
        self.folder = folder
        self.address = address
        self.port, *self._node_ports = free_ports(1 + 16)
        self.config = folder / "experiment.yaml"
        self.config.write_text(yaml.safe_dump(dict(config)), encoding="utf-8")
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])  # another Flower's, say
        self._environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}

    def cosp(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command of cosp to its end."""
        done = subprocess.run([*COSP, *words], cwd=self.folder, env=self._environment, capture_output=True, text=True)
        assert not check or done.returncode == 0, f"cosp {' '.join(words)}: {done.stdout}\n{done.stderr}"
        return done

    def start(self, name: str, *words: str, prefix: Sequence[str] = (), python: Sequence[str] = COSP) -> None:
        """Start a command of cosp that stays; its output goes to ``NAME.log``."""
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [*prefix, *python, *words], cwd=self.folder, env=self._environment, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip

    def make_keys(self, boards: int) -> None:
        self.cosp("keys", "server", "--host", self.address)
        self.cosp("keys", "node", *(f"board-{board}" for board in range(boards)))

    def start_server(self, keys: str = "keys", *, admit: bool = True) -> None:
        """Start the server and let every board in whose public key is there."""
        self.start("server", "server", "start", "--keys", keys, "--port", str(self.port))
        until(lambda: answers(self.address, self.port), "the server answers")
        if admit:
            self.cosp("server", "admit", *map(str, sorted((self.folder / "keys").glob("*.pub"))))

    def start_trainer(self, board: int, *flags: str, prefix: Sequence[str] = ()) -> None:
        self.start(
            f"trainer-{board}", "trainer", "--data", f"stores/{board}", "--socket", f"trainer-{board}.sock",
            "--threads", "1", *flags, prefix=prefix,
        )  # fmt: skip

    def start_client(
        self, board: int, *, keep: float = 1.0, ca: str = "keys/ca.crt", key: str = "", prefix: Sequence[str] = ()
    ) -> None:
        self.start(
            f"client-{board}", "client", "--server", f"{self.address}:{self.port}", "--number", str(board),
            "--ca", ca, "--key", key or f"keys/board-{board}.key", "--trainer", f"trainer-{board}.sock",
            "--keep", str(keep), "--board", f"board-{board}", "--port", str(self._node_ports[board]),
            "--home", f"home-{board}", prefix=prefix,
        )  # fmt: skip

    def start_run(self, out: str = "run", *flags: str) -> None:
        self.start("run", "server", "run", str(self.config), "--out", out, *flags)

    def wait_for_run(self, timeout_s: float) -> None:
        code = self.processes["run"].wait(timeout_s)
        assert code == 0, self.log("run") + self.log("server")

    def rows(self, out: str = "run") -> list[Row]:
        path = self.folder / out / "rows.jsonl"
        lines = path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []
        return [json.loads(line) for line in lines]

    def versions(self, out: str = "run") -> int:
        return max((row["version"] for row in self.rows(out) if row["kind"] == "round"), default=-1)

    def arrivals(self, out: str = "run", *, accepted: bool = True) -> list[Row]:
        return [row for row in self.rows(out) if row["kind"] == "arrival" and row["accepted"] == accepted]

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(encoding="utf-8", errors="replace")

    def below(self, name: str, word: str) -> list[psutil.Process]:
        """Return the processes that ``name`` started whose command line holds ``word``, or that are called so."""
        found = psutil.Process(self.processes[name].pid).children(recursive=True)
        return [process for process in found if word in " ".join(command_line(process))]

    def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        """Send a signal to a process that was started here; with SIGKILL its whole group goes, as with systemd."""
        if number != signal.SIGKILL:
            self.processes[name].send_signal(number)
            return
        for process in psutil.Process(self.processes[name].pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self.processes[name].kill()
        self.processes[name].wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        living = [process for process in self.processes.values() if process.poll() is None]
        ours = [child for process in living for child in psutil.Process(process.pid).children(recursive=True)]
        for process in living:
            process.terminate()
        for process in living:
            with suppress(subprocess.TimeoutExpired):
                process.wait(20)
            process.kill()
        for child in ours:
            with suppress(psutil.NoSuchProcess):
                child.kill()


def answers(address: str, port: int) -> bool:
    with suppress(OSError), socket.create_connection((address, port), timeout=2):
        return True
    return False


def command_line(process: psutil.Process) -> list[str]:
    """Return its name and its words; a copy of a process has the words of that one and a name of its own."""
    try:
        return [process.name(), *process.cmdline()]
    except psutil.NoSuchProcess:
        return []


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(server.getsockname()[1]) for server in sockets]
    for server in sockets:
        server.close()
    return ports
