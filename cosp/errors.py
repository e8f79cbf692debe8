"""What cosp raises on purpose, as one tree.

``UserError`` is what a person can mend (a key, a file, a value): the command line prints its one line and exits with 2.
"""

from __future__ import annotations


class CospError(Exception):
    """Anything that cosp raises on purpose."""


class UserError(CospError):
    """The caller gave something unusable; the message names it, the rule it breaks and what to do next."""


class ConfigError(UserError):
    """A configuration file, key or value is wrong."""


class DataError(UserError):
    """A data set is missing or not in the form that was asked for."""


class FleetStalled(CospError):
    """Nothing is under way on a simulated fleet and nothing will ever be."""


class RefusedUpdate(CospError):
    """A client's update cannot be merged; ``reason`` is the short name under which it is counted."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
