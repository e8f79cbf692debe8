"""What a library says of a damaged file, for a message of ours."""

from __future__ import annotations


def first_line(error: Exception) -> str:
    """The first line of its message, else its name: libraries append stack-like details."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
