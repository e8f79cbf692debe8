"""Boards on a network of their own: a namespace each, joined by a bridge, at speeds that ``tc`` gives the links."""

from __future__ import annotations

import subprocess
from contextlib import suppress
from typing import Self

BRIDGE = "cosp-br"
SERVER = "10.77.0.1"
BURST = "16kb"


class Network:
    """A bridge with the server's address and a namespace ``cosp-N`` a board; everything goes when it is left.

    ``rates_mbit_s``: of each board's link, the same in both directions. A token bucket holds it, as not every kernel
    has netem: so there is bandwidth, and no latency or loss beyond what it makes.
    """

    def __init__(self, rates_mbit_s: list[float]) -> None:
        self._rates = rates_mbit_s

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
        for board, rate in enumerate(self._rates):
            here, there, space = f"cosp-v{board}", f"cosp-w{board}", f"cosp-{board}"
            _ip("netns", "add", space)
            _ip("link", "add", here, "type", "veth", "peer", "name", there)
            _ip("link", "set", there, "netns", space)
            _ip("link", "set", here, "master", BRIDGE)
            _ip("link", "set", here, "up")
            _ip("-n", space, "addr", "add", f"10.77.0.{10 + board}/24", "dev", there)
            _ip("-n", space, "link", "set", there, "up")
            _ip("-n", space, "link", "set", "lo", "up")
            for end in ([], ["-n", space]):
                _run("tc", *end, "qdisc", "add", "dev", there if end else here, "root", "tbf",
                     "rate", f"{rate}mbit", "burst", BURST, "latency", "400ms")  # fmt: skip
        return self

    def __exit__(self, *_: object) -> None:
        for board in range(len(self._rates)):
            with suppress(subprocess.CalledProcessError):
                _ip("netns", "del", f"cosp-{board}")
            with suppress(subprocess.CalledProcessError):
                _ip("link", "del", f"cosp-v{board}")
        with suppress(subprocess.CalledProcessError):
            _ip("link", "del", BRIDGE)


def available() -> bool:
    """Say whether this machine lets us make namespaces, bridges and token buckets."""
    try:
        with Network([1.0]):
            return True
    except (OSError, subprocess.CalledProcessError):
        return False


def _ip(*words: str) -> None:
    _run("ip", *words)


def _run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True)
