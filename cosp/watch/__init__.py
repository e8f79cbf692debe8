"""A page on this machine alone that follows a run while it goes on."""

from __future__ import annotations

from cosp.watch.server import Watch, check_run

__all__ = ["Watch", "check_run"]
