"""The order of the rooms: who may import whom. ``docs/design.md`` draws it from the same rules."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

COSP = Path(__file__).resolve().parents[1] / "cosp"

ORDER = (
    ("amounts", "errors"),
    ("seeds", "files", "forms", "console", "held", "processor", "recipe", "stratified", "images"),
    ("submodel", "transfer"),
    ("models",),
    ("checkpoints",),
    ("data", "fleet"),
    ("task",),
    ("adaptation",),
    ("merge", "trainer"),
    ("wire", "board"),
    ("methods",),
    ("server", "config"),
    ("experiment",),
    ("run",),
    ("export",),
    ("predict",),
    ("report",),
    ("watch", "track"),
    ("simulation", "deployment", "calibration", "planning"),
    ("tables", "stream"),
    ("flower",),
    ("cli",),
)
"""From the ground up. A room imports from its own and from lower floors, never from one beside it."""

FLOWER_S = ("wire", "server.clock", "server.loop", "server.greeting", "run.party", "run.serve", "run.virtual",
            "simulation.local_grid", "simulation.virtual_grid", "stream.boards", "stream.real", "flower",
            "deployment")  # fmt: skip
"""Who may import Flower."""


def imports(path: Path) -> Iterator[str]:
    """Yield what a file imports, also where it does so late or for its types alone."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{name.name}" for name in node.names)


def module(path: Path) -> str:
    """Return ``cosp.room.file`` of a path, of a package's face ``cosp.room``."""
    return ".".join(("cosp", *path.relative_to(COSP).with_suffix("").parts)).removesuffix(".__init__")


FILES = {module(path): path for path in sorted(COSP.rglob("*.py"))}


def file_of(name: str) -> str | None:
    """Return the file of ours that an imported name is, or lies in."""
    return next((one for one in (name, name.rpartition(".")[0]) if one in FILES), None)


@cache
def arrows() -> dict[str, list[str]]:
    """Return whom each file of ours imports of ours."""
    return {name: sorted({to for to in map(file_of, imports(path)) if to}) for name, path in FILES.items()}


FLOOR = {room: floor for floor, rooms in enumerate(ORDER) for room in rooms}


def room(name: str) -> str:
    return name.split(".")[1] if "." in name else ""


def circles(graph: dict[str, list[str]]) -> list[list[str]]:
    """Return a circle of imports for each file that is on one and was not found on another."""
    found: list[list[str]] = []
    done: set[str] = set()

    def follow(name: str, way: list[str]) -> None:
        if name in way:
            found.append(way[way.index(name) :])
        elif name not in done:
            for to in graph[name]:
                follow(to, [*way, name])
            done.add(name)

    for name in graph:
        follow(name, [])
    return found


def test_every_room_has_its_floor() -> None:
    assert {room(name) for name in FILES} - {""} == set(FLOOR)


@pytest.mark.parametrize("name", FILES)
def test_a_file_imports_from_lower_floors_alone(name: str) -> None:
    if room(name):
        here = room(name)
        upward = [to for to in arrows()[name] if room(to) not in ("", here) and FLOOR[room(to)] >= FLOOR[here]]
        assert upward == []


def test_no_circle_of_files() -> None:
    assert circles(arrows()) == []


def test_a_circle_is_found() -> None:
    assert circles({"a": ["b"], "b": ["c"], "c": ["b"]}) == [["b", "c"]]


def test_flower_stays_at_the_edge() -> None:
    users = {name for name, path in FILES.items() if any(to.split(".")[0] == "flwr" for to in imports(path))}
    assert {name for name in users if not name.removeprefix("cosp.").startswith(FLOWER_S)} == set()
