"""What a command need not import it does not: each of these takes a person's time at every start."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

QUICKSTART = Path(__file__).parents[2] / "experiments/quickstart.yaml"

ASK = """
import json, sys
from contextlib import suppress
from cosp.cli.main import main
with suppress(SystemExit):
    main()
print("\\n" + json.dumps(sorted(sys.modules)))
"""
HEAVY = {"datasets", "flwr", "flwr_datasets", "matplotlib", "pandas", "scipy", "sklearn"}


def imported_by(*arguments: str) -> set[str]:
    """Return the names of all modules there are when a command is through."""
    found = subprocess.run([sys.executable, "-c", ASK, *arguments], capture_output=True, text=True, check=True)
    return set(json.loads(found.stdout.splitlines()[-1]))


@pytest.mark.parametrize("arguments", [("--help",), ("run", "--help"), ("plan", "--help")])
def test_help_imports_nothing_to_compute_with(arguments: tuple[str, ...]):
    assert not imported_by(*arguments) & (HEAVY | {"numpy", "pydantic", "torch", "yaml"})


def test_a_plan_imports_neither_flower_nor_what_draws_or_learns():
    found = imported_by("plan", str(QUICKSTART))
    assert "cosp.planning.plan" in found
    assert not found & HEAVY
