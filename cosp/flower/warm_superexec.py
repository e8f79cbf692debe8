"""Flower's SuperExec on a board, whose ClientApps begin as copies of a process that has imported all that they need.

Flower starts a Python for every task, whose imports take seconds of a weak board's CPU, longer than many a task. Here
one process has imported them before there is a thread, waits, and forks for each task. If it is gone, Flower's own way
is taken, and said.

Private Flower names are used in this file, and a test holds them to what Flower does.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from flwr.supercore.constant import TaskType
from flwr.supercore.superexec.executor import ExecutionSpec, LaunchResult, factory
from flwr.supercore.superexec.executor.subprocess_executor import SubprocessExecutor
from flwr.supercore.tls import validate_and_resolve_root_certificates
from flwr.supernode.runtime.run_clientapp import run_clientapp

from cosp.flower import at_trainer, client_app

NAME = "flwr-clientapp"
"""What a copy is called in lists of processes, and by Flower's own code."""
IMPORTED = (at_trainer, client_app)
"""Of cosp, what a task needs; here so that it is there before the first."""


class WarmExecutor(SubprocessExecutor):
    """Asks the process at the other end of ``requests`` for ClientApps."""

    def __init__(self, requests: socket.socket) -> None:
        self._requests = requests

    def launch(self, spec: ExecutionSpec) -> LaunchResult:
        if spec.task_type != TaskType.CLIENT_APP:
            return super().launch(spec)
        asked = {
            "runtime_api_address": spec.runtime_api_address,
            "token": spec.token,
            "insecure": spec.insecure,
            "certificates": spec.root_certificates_path,
            "parent_pid": spec.parent_pid,
            "runtime_dependency_install": spec.runtime_dependency_install,
        }
        try:
            self._requests.sendall(json.dumps(asked).encode() + b"\n")
        except OSError as error:
            print(f"cosp: ClientApps start cold from now on ({error})", file=sys.stderr, flush=True)
            return super().launch(spec)
        return LaunchResult.accepted()


def serve(requests: socket.socket) -> None:
    """Fork a ClientApp for each request, until nobody can ask any more."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # so that the kernel buries them
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with requests.makefile("rb") as lines:
        for line in lines:
            if os.fork() == 0:
                os.close(requests.fileno())  # so that SuperExec sees when the one that forks is gone
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                signal.signal(signal.SIGINT, signal.default_int_handler)
                work(json.loads(line))


def work(asked: dict[str, Any]) -> NoReturn:
    """Be a ClientApp, to its end."""
    code: Any = 1
    try:
        sys.argv = [NAME]
        with suppress(OSError):
            Path("/proc/self/comm").write_text(NAME, encoding="ascii")
        certificates = validate_and_resolve_root_certificates(asked.pop("certificates"), asked["insecure"])
        run_clientapp(**asked, certificates=certificates)
    except SystemExit as end:
        code = end.code
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code if isinstance(code, int) else 1)  # what the parent would do at its end is not ours


def main() -> None:
    """Run ``flower-superexec`` with its own arguments beside the process that forks."""
    from flwr.supercore.cli.flower_superexec import flower_superexec

    ours, theirs = socket.socketpair()
    if os.fork() == 0:
        ours.close()
        serve(theirs)
        os._exit(0)
    theirs.close()
    replaced: Any = factory
    replaced.SubprocessExecutor = lambda: WarmExecutor(ours)
    flower_superexec()


if __name__ == "__main__":
    main()
