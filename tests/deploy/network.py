"""Boards on a network of their own: a namespace each, joined by a bridge, over links of known speed, delay and loss."""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

BRIDGE = "cosp-br"
SERVER = "10.77.0.1"
BURST = "16kb"
CABLE = Path(__file__).with_name("cable.py")


@dataclass(frozen=True, kw_only=True)
class Link:
    """A board's link, the same in both directions; ``loss`` is the share of frames that never arrive."""

    rate_mbit_s: float
    delay_ms: float = 0.0
    loss: float = 0.0


class Network:
    """A bridge with the server's address and a namespace ``cosp-N`` a board; everything goes when it is left.

    A token bucket of ``tc`` holds a link's rate. Delay and loss are a cable's in user space (``cable.py``), as not
    every kernel has netem.
    """

    def __init__(self, links: list[Link]) -> None:
        self._links = links
        self._cables: list[subprocess.Popen[str]] = []

    def prefix(self, board: int) -> list[str]:
        """Return what to put before a command to have it run at ``board``."""
        return ["ip", "netns", "exec", f"cosp-{board}"]

    def cut(self, board: int) -> None:
        _ip("link", "set", f"cosp-v{board}", "down")

    def mend(self, board: int) -> None:
        _ip("link", "set", f"cosp-v{board}", "up")

    def __enter__(self) -> Self:
        self.__exit__()
        _ip("link", "add", BRIDGE, "type", "bridge")
        _ip("addr", "add", f"{SERVER}/24", "dev", BRIDGE)
        _ip("link", "set", BRIDGE, "up")
        for board, link in enumerate(self._links):
            here, there, space = f"cosp-v{board}", f"cosp-w{board}", f"cosp-{board}"
            _ip("netns", "add", space)
            self._connect(here, there, link, seed=board)
            _ip("link", "set", there, "netns", space)
            _ip("link", "set", here, "master", BRIDGE)
            _ip("link", "set", here, "up")
            _ip("-n", space, "addr", "add", f"10.77.0.{10 + board}/24", "dev", there)
            _ip("-n", space, "link", "set", there, "up")
            _ip("-n", space, "link", "set", "lo", "up")
            for end in ([], ["-n", space]):
                _run("tc", *end, "qdisc", "add", "dev", there if end else here, "root", "tbf",
                     "rate", f"{link.rate_mbit_s}mbit", "burst", BURST, "latency", "400ms")  # fmt: skip
        return self

    def _connect(self, here: str, there: str, link: Link, *, seed: int) -> None:
        if not link.delay_ms and not link.loss:
            _ip("link", "add", here, "type", "veth", "peer", "name", there)
            return
        command = [sys.executable, str(CABLE), here, there, str(link.delay_ms), str(link.loss), str(seed)]
        cable = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self._cables.append(cable)
        if cable.stdout is None or cable.stdout.readline() != "ready\n":
            raise OSError("no TAP devices can be made here")

    def __exit__(self, *_: object) -> None:
        for cable in self._cables:
            cable.kill()
            cable.communicate()
        self._cables.clear()
        for board in range(len(self._links)):
            with suppress(subprocess.CalledProcessError):
                _ip("netns", "del", f"cosp-{board}")
            with suppress(subprocess.CalledProcessError):
                _ip("link", "del", f"cosp-v{board}")
        with suppress(subprocess.CalledProcessError):
            _ip("link", "del", BRIDGE)


def available() -> bool:
    """Say whether this machine lets us make namespaces, bridges, token buckets and TAP devices."""
    try:
        with Network([Link(rate_mbit_s=1.0, delay_ms=1.0)]):
            return True
    except (OSError, subprocess.CalledProcessError):
        return False


def _ip(*words: str) -> None:
    _run("ip", *words)


def _run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True)
