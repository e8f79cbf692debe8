"""Keep child processes running: what dies is started again, with growing pauses; stopping takes all of them along."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

PAUSES_S = (1.0, 2.0, 5.0, 10.0)
"""Before each new start of a process that does not stay; the last one for ever."""
STEADY_S = 30.0
"""A process that lived this long counts as well again."""
GRACE_S = 10.0
POLL_S = 0.2


@dataclass(frozen=True, kw_only=True)
class Service:
    """A command to keep running. ``with_children``: what it had started ends before it is started again."""

    name: str
    command: tuple[str, ...]
    with_children: bool = True


class _Running:
    """One service and its present process, which leads a process group of its own."""

    def __init__(
        self, service: Service, environment: Mapping[str, str], why: Callable[[], Iterable[str]] = tuple
    ) -> None:
        self.service = service
        self._why = why
        self._environment = environment
        self._failures = 0
        self._due_s = 0.0
        self.process: subprocess.Popen[bytes] | None = None

    def tend(self) -> None:
        """Start the process when it is due, note its death."""
        now_s = time.monotonic()
        if self.process is None:
            if now_s >= self._due_s:
                self._started_s = now_s
                self.process = subprocess.Popen(
                    self.service.command, env=dict(self._environment), start_new_session=True
                )
        elif (code := self.process.poll()) is not None:
            if self.service.with_children:
                self.signal(signal.SIGKILL)
            self._failures = 0 if now_s - self._started_s > STEADY_S else self._failures + 1
            pause_s = PAUSES_S[min(self._failures, len(PAUSES_S) - 1)]
            self._due_s, self.process = now_s + pause_s, None
            say(f"{self.service.name} ended ({_ending(code)}); starting it again in {pause_s:.0f} s")
            threading.Thread(target=self._say_why, daemon=True).start()  # looking takes seconds; a stop must not

    def _say_why(self) -> None:
        for line in self._why():
            say(line)

    def signal(self, number: int) -> None:
        """Send a signal to the whole group."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)


def supervise(
    services: Sequence[Service],
    environment: Mapping[str, str],
    *,
    stop: threading.Event | None = None,
    why: Callable[[], Iterable[str]] = tuple,
) -> None:
    """Run ``services`` until ``stop`` is set; in the main thread SIGTERM and SIGINT set it.

    ``why`` looks for what may have made one of them end, which is said beside it.
    """
    stop = stop or threading.Event()
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
    running = [_Running(service, environment, why) for service in services]
    try:
        while not stop.wait(POLL_S):
            for one in running:
                one.tend()
    finally:
        _end(running)


def _end(running: Sequence[_Running]) -> None:
    """Ask every group to end, last started first, then see to it."""
    for one in reversed(running):
        one.signal(signal.SIGTERM)
    until_s = time.monotonic() + GRACE_S
    for one in running:
        if one.process is not None:
            with suppress(subprocess.TimeoutExpired):
                one.process.wait(max(0.0, until_s - time.monotonic()))
            one.signal(signal.SIGKILL)
            one.process.wait()


def _ending(code: int) -> str:
    return f"exit code {code}" if code >= 0 else signal.Signals(-code).name


def say(text: str) -> None:
    """Say something of what is kept running, beside what it says itself."""
    print(f"cosp: {text}", file=sys.stderr, flush=True)
