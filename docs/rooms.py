"""Draws docs/img/rooms.svg: the rooms of cosp, floor by floor, and what each is for.

    python docs/rooms.py

The floors are those that tests/test_rooms.py keeps (``ORDER``), the words the first line of each room's docstring.
"""

from __future__ import annotations

import ast
import re
import textwrap
import tomllib
from collections.abc import Iterator
from pathlib import Path
from xml.sax.saxutils import escape

ROOT = Path(__file__).resolve().parents[1]
FIGURE = ROOT / "docs" / "img" / "rooms.svg"

WIDTH, MARGIN, GAP = 1120, 16, 10
LINE, NAME, PADDING = 15, 20, 9  # heights of a line of words and of a room's name, the space around them
CHARACTER = 5.9  # pixels of a character of the words, rather too many


def order() -> tuple[tuple[str, ...], ...]:
    """Return the floors from the ground up, without running the test that keeps them."""
    tree = ast.parse((ROOT / "tests" / "test_rooms.py").read_text(encoding="utf-8"))
    named = (node for node in tree.body if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name))
    return next(ast.literal_eval(node.value) for node in named if node.targets[0].id == "ORDER")


def on_boards() -> set[str]:
    """Return the rooms that boards run too: those for which pyproject.toml names Python 3.8."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = [
        path for path, python in settings["tool"]["ruff"]["per-file-target-version"].items() if python == "py38"
    ]
    return {room for path in patterns for room in re.split(r"\W+", path.removeprefix("cosp/"))}


def purpose(room: str) -> str:
    """Return the first sentence of what a room says of itself."""
    folder, file = ROOT / "cosp" / room / "__init__.py", ROOT / "cosp" / f"{room}.py"
    text = ast.get_docstring(ast.parse((folder if folder.is_file() else file).read_text(encoding="utf-8"))) or ""
    first = " ".join(text.split("\n\n")[0].split()).replace("``", "")
    return re.split(r"(?<=[^.])\. ", first)[0].rstrip(".")


def box(room: str, words: list[str], *, left: float, top: float, width: float, height: float) -> Iterator[str]:
    fill, stroke = ("#e3f1e7", "#4f8a63") if room in on_boards() else ("#e8edf6", "#5a74a8")
    yield (
        f'<rect x="{left:.0f}" y="{top:.0f}" width="{width:.0f}" height="{height:.0f}" rx="6" '
        f'fill="{fill}" stroke="{stroke}"/>'
    )
    yield f'<text x="{left + PADDING:.0f}" y="{top + NAME:.0f}" class="name">{escape(room)}</text>'
    for number, line in enumerate(words, start=1):
        y = top + NAME + number * LINE + 2
        yield f'<text x="{left + PADDING:.0f}" y="{y:.0f}">{escape(line)}</text>'


def figure() -> str:
    """Return the figure: who stands higher may import who stands lower."""
    parts: list[str] = []
    top = float(MARGIN)
    for rooms in reversed(order()):
        width = (WIDTH - 2 * MARGIN - GAP * (len(rooms) - 1)) / len(rooms)
        words = [textwrap.wrap(purpose(room), int((width - 2 * PADDING) / CHARACTER)) for room in rooms]
        height = NAME + LINE * max(map(len, words)) + PADDING + 2
        for place, (room, lines) in enumerate(zip(rooms, words, strict=True)):
            left = MARGIN + place * (width + GAP)
            parts += box(room, lines, left=left, top=top, width=width, height=height)
        top += height + GAP
    foot = "A room imports from lower floors alone. Green: runs on boards too, on Python 3.8 with torch and numpy."
    parts.append(f'<text x="{MARGIN}" y="{top + LINE:.0f}" class="foot">{foot}</text>')
    height = top + 2 * LINE
    style = "text{font:12px sans-serif;fill:#333}.name{font:bold 14px ui-monospace,monospace;fill:#111}.foot{fill:#555}"
    return "\n".join((
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" role="img" '
        f'aria-label="The rooms of cosp, floor by floor">',
        f"<style>{style}</style>",
        f'<rect width="{WIDTH}" height="{height:.0f}" fill="#fff"/>',
        *parts,
        "</svg>\n",
    ))  # fmt: skip


if __name__ == "__main__":
    FIGURE.parent.mkdir(exist_ok=True)
    FIGURE.write_text(figure(), encoding="utf-8")
    print(FIGURE)
