"""What the checkpoints of runs and of streams have in common: which is the newest, whether its settings are still those
that are asked for, and that what is damaged is one line.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from cosp.config import dotted
from cosp.errors import UserError


def newest(folder: Path) -> Path | None:
    """Return the file of the newest checkpoint that was written whole, None if there is none."""
    return max(folder.glob("state-*.json"), default=None)


def settings_of(config: BaseModel) -> dict[str, Any]:
    """Return what a run or a stream keeps to, as JSON values: all settings, but not which libraries wrote them down."""
    return config.model_dump(mode="json", exclude={"versions"})


def check_settings(
    folder: Path, began: Mapping[str, Any], now: Mapping[str, Any], *, free: Collection[str], what: str
) -> None:
    """UserError if the run or stream (``what``) in ``folder`` began with other settings, but for those that start as in
    ``free``.
    """
    was, wanted = dict(dotted(began)), dict(dotted(now))
    for key in sorted(was.keys() | wanted.keys()):
        if was.get(key) != wanted.get(key) and not key.startswith(tuple(free)):
            raise UserError(
                f"{folder}: cannot go on: {key} was {was.get(key)!r} when the {what} began and is {wanted.get(key)!r} "
                "now; put it back, or begin anew with another --out"
            )


@contextmanager
def making_sense(path: Path, what: str) -> Iterator[None]:
    """Turn what the values of the checkpoint ``path`` make go wrong into UserError: it is damaged."""
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise UserError(f"{path}: the checkpoint makes no sense ({error!r}); start the {what} anew") from error
