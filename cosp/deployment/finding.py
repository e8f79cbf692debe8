"""What a check of a deployment finds: one line each, and what to do where it failed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

Level = Literal["OK", "warning", "failed"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """``mend`` says what to do; empty where nothing is."""

    name: str
    said: str
    level: Level = "OK"
    mend: str = ""

    def line(self) -> str:
        return f"{self.name:<12}{self.level:<9}{self.said}" + (f"; {self.mend}" if self.mend else "")


def failed(name: str, said: str, mend: str) -> Finding:
    return Finding(name=name, said=said, level="failed", mend=mend)


def warning(name: str, said: str, mend: str) -> Finding:
    return Finding(name=name, said=said, level="warning", mend=mend)


def until_failed(findings: Iterable[Finding], after: Iterable[str]) -> Iterator[Finding]:
    """Yield ``findings`` up to the first that failed; those named in ``after`` need what came before them."""
    left = list(after)
    for one in findings:
        yield one
        left = [name for name in left if name != one.name]
        if one.level == "failed":
            for name in left:
                yield Finding(name=name, said=f"not looked at: {one.name} failed", level="warning")
            return
