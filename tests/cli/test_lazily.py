"""A package that was imported lazily is executed when something of it is asked for, and then is as any other."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BEFORE = """
import sys
from cosp.cli.lazily import lazily
sys.path.insert(0, sys.argv[1])
lazily("slow")
import slow
import slow
assert not hasattr(sys, "executed")
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A package that leaves a mark as it is executed, whose two modules need each other."""
    (tmp_path / "slow").mkdir()
    (tmp_path / "slow/__init__.py").write_text(
        "import sys\nsys.executed = getattr(sys, 'executed', 0) + 1\nONE = 1\nfrom slow.part import TWO\n"
    )
    (tmp_path / "slow/part.py").write_text("import slow\nTWO = slow.ONE + 1\n")
    return tmp_path


@pytest.mark.parametrize(
    "use",
    ["assert slow.TWO == 2", "from slow import TWO", "import slow.part\nassert slow.part.TWO == 2", "slow.__path__"],
)
def test_it_is_executed_once_with_its_first_use(place: Path, use: str):
    after = "\nassert sys.executed == 1\nassert type(slow) is type(sys)\nassert slow.TWO + slow.ONE == 3\n"
    subprocess.run([sys.executable, "-c", BEFORE + use + after, str(place)], check=True)


def test_what_goes_wrong_in_it_is_said_at_its_first_use_and_again_at_the_next_import(place: Path):
    (place / "slow/__init__.py").write_text("raise OSError('no such library')\n")
    code = (
        BEFORE
        + """
for use in (lambda: slow.TWO, lambda: __import__("slow")):
    try:
        use()
    except OSError as error:
        print(error)
"""
    )
    found = subprocess.run([sys.executable, "-c", code, str(place)], check=True, capture_output=True, text=True)
    assert found.stdout.splitlines() == ["no such library"] * 2


def test_what_is_not_there_is_said_by_the_import():
    code = "from cosp.cli.lazily import lazily\nlazily('no_such_package')\nimport no_such_package"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "ModuleNotFoundError: No module named 'no_such_package'" in found.stderr
