"""The design page names what there is, and its picture shows the order of the rooms as it is kept."""

from __future__ import annotations

import importlib.util
import re
from types import ModuleType

import pages
import pytest
from test_rooms import ORDER

ROOT = pages.ROOT
DESIGN = pages.read("docs/design.md")


@pytest.fixture(scope="module")
def rooms() -> ModuleType:
    spec = importlib.util.spec_from_file_location("rooms", ROOT / "docs" / "rooms.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_picture_has_the_floors_that_the_test_of_imports_keeps(rooms: ModuleType) -> None:
    assert rooms.order() == ORDER


def test_the_picture_is_up_to_date(rooms: ModuleType) -> None:
    drawn = (ROOT / "docs" / "img" / "rooms.svg").read_text(encoding="utf-8")
    assert drawn == rooms.figure(), "the rooms have changed: run `python docs/rooms.py`"


def test_files_that_the_page_names_are_there() -> None:
    named = {name for name in pages.spans(DESIGN) if re.fullmatch(r"[\w/]+\.py|[a-z]+/", name)}
    assert len(named) > 15
    places = [ROOT / "cosp", ROOT]
    assert sorted(name for name in named if not any((place / name).exists() for place in places)) == []


def test_classes_that_the_walk_names_are_there() -> None:
    walk = DESIGN[DESIGN.index("## One dispatch") : DESIGN.index("## Choices")]
    source = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "cosp").rglob("*.py")))
    names = {part for span in pages.spans(walk) for part in re.findall(r"[A-Z]\w+|(?<=\.)[a-z_]+$", span)} - {"JSON"}
    missing = [name for name in names if not re.search(rf"(?:class|def) {name}\b", source) and name != "py"]
    assert missing == []
