"""What the pages of the documentation hold: fenced blocks by language, commands, spans of code in sentences."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = {str(path.relative_to(ROOT)): path for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))}
"""Every page that people write, by its path from the root of the repository."""

FENCE = re.compile(r"^```(\w+)(?: title=\"([^\"]+)\")?\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"(?<!`)`([^`]+)`(?!`)")


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, the file that its title names, and its text."""

    language: str
    title: str | None
    text: str

    def shell_lines(self) -> list[str]:
        """Return the lines of a shell block, continued ones as one line, without comments."""
        whole = self.text.replace("\\\n", " ").splitlines()
        return [line for line in (re.sub(r"(^| )#.*", "", one).strip() for one in whole) if line]


def read(page: str) -> str:
    return PAGES[page].read_text(encoding="utf-8")


def blocks(text: str) -> list[Block]:
    return [Block(*match.groups()) for match in FENCE.finditer(text)]


def titled(page: str, title: str) -> str:
    """Return the text of the block of a page that shows the file ``title``."""
    (found,) = [block.text for block in blocks(read(page)) if block.title == title]
    return found


def prose(text: str) -> str:
    """Return a page without its fenced blocks."""
    return FENCE.sub("", text)


def spans(text: str) -> list[str]:
    """Return the code in a page's sentences, each on one line."""
    return [" ".join(span.split()) for span in SPAN.findall(prose(text))]


def in_order(text: str) -> Iterator[tuple[bool, str]]:
    """Yield shell lines (True) and spans of code in sentences (False) as a reader meets them."""
    done = 0
    for match in FENCE.finditer(text):
        yield from ((False, span) for span in spans(text[done : match.start()]))
        if match[1] == "sh":
            yield from ((True, line) for line in Block(*match.groups()).shell_lines())
        done = match.end()
    yield from ((False, span) for span in spans(text[done:]))
