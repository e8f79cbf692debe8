"""The units parse, and the commands in them are cosp's."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from cosp.cli import main as cli

UNITS = sorted((Path(__file__).parents[2] / "deploy" / "systemd").glob("*.service"))


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze")
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_is_sound(unit):
    done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True)
    said = [line for line in done.stderr.splitlines() if unit.name in line and "is not executable" not in line]
    assert said == []


@pytest.mark.parametrize("unit", [unit for unit in UNITS if "trainer" not in unit.name], ids=lambda unit: unit.name)
def test_a_unit_s_command_is_known_with_its_flags(unit, monkeypatch, capsys):
    lines = unit.read_text(encoding="utf-8").splitlines()
    command = next(line.split("=", 1)[1] for line in lines if line.startswith("ExecStart="))
    words = shlex.split(command)[1:]
    words = words[2:] if words[:2] == ["-m", "cosp.cli"] else words
    names = [word for word in words if not word.startswith("-")][: 2 if words[0] == "server" else 1]
    monkeypatch.setattr("sys.argv", ["cosp", *names, "--help"])
    with pytest.raises(SystemExit):
        cli.main()
    known = capsys.readouterr().out
    assert [flag for flag in words if flag.startswith("--") and flag not in known] == []


@pytest.mark.parametrize("unit", [unit for unit in UNITS if "trainer" not in unit.name], ids=lambda unit: unit.name)
def test_who_speaks_over_the_network_waits_for_the_clock(unit):
    text = unit.read_text(encoding="utf-8")
    for key in ("After", "Wants"):
        (line,) = [line for line in text.splitlines() if line.startswith(f"{key}=")]
        assert "time-sync.target" in line


def test_the_client_s_python_is_that_of_the_environment_without_torch():
    (unit,) = [unit for unit in UNITS if "client" in unit.name]
    text = unit.read_text(encoding="utf-8")
    assert "ExecStart=/opt/cosp/node/bin/python -m cosp.cli client" in text
    assert "uv venv --python 3.11 /opt/cosp/node" in text
