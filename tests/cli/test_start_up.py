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
    assert not found & (HEAVY | {"torch.nn", "safetensors.torch"})


def test_workers_import_torch_while_the_run_does_and_rows_do_not_wait_for_what_draws(tmp_path: Path):
    code = """
import sys
from cosp.cli.main import main
from cosp.simulation import forks
start, seen = forks.start, []
def started():
    if not seen:
        seen.append(set(sys.modules))
        from cosp.run.directory import RunDirectory
        RunDirectory.write_row = first(RunDirectory, RunDirectory.write_row)
    start()
def first(kind, write_row):
    def write(self, row):
        kind.write_row = write_row
        write_row(self, row)
        print("before the workers", sorted(seen[0] & {"torch.nn", "matplotlib", "flwr"}))
        print("before the row", sorted(set(sys.modules) & {"torch.nn", "matplotlib", "sklearn", "pandas"}))
    return write
forks.start = started
main()
"""
    words = ["run", str(QUICKSTART), "--set", "server.versions=1", "--workers", "1", "--out", str(tmp_path / "run")]
    found = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True)
    assert "before the workers []\nbefore the row ['torch.nn']\n" in found.stdout
