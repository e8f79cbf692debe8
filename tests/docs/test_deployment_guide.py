"""The deployment guide's commands and files are those that there are."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pages
import pytest
import typer

from cosp.cli import main as cli
from cosp.config import load_config
from cosp.fleet import load_fleet
from cosp.trainer import __main__ as trainer

ROOT = Path(__file__).resolve().parents[2]
GUIDE = pages.read("docs/deployment.md")


def commands() -> list[list[str]]:
    """Return every ``cosp ...`` of the guide's blocks and sentences, as words, without comments."""
    texts = [text for _, line in pages.in_order(GUIDE) for text in line.split(" && ")]
    found = [re.search(r"(?:^|-m )cosp(?:\.cli|\.trainer(?! store| serve))? (.*)", text.strip()) for text in texts]
    words = [shlex.split(match.group(1)) for match in found if match]
    return [list(one) for one in dict.fromkeys(map(tuple, words))]


def resolved(words: list[str]) -> tuple[click.Command, list[str]]:
    """Return the command that the words begin with, and the words after it."""
    command: click.Command = typer.main.get_command(cli.app)
    while words and isinstance(command, click.Group) and words[0] in command.commands:
        command, words = command.commands[words[0]], words[1:]
    return command, words


COMMANDS = [words for words in commands() if not words[0].startswith("-")]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_command_of_the_guide_exists_with_its_options(words: list[str]) -> None:
    command, rest = resolved(words)
    assert not isinstance(command, click.Group) or not rest
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in rest if word.startswith("--")} <= known


def test_the_guide_has_commands() -> None:
    assert {"keys", "server", "store", "client", "devices", "report"} <= {words[0] for words in COMMANDS}


def test_files_that_the_guide_names_are_there() -> None:
    named = re.findall(r"docker/[\w.]+\w", GUIDE)
    assert len(set(named)) > 4
    assert all((ROOT / path).is_file() for path in named)


def test_the_guide_s_experiment_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_text(pages.titled("docs/deployment.md", "my.yaml"), encoding="utf-8")
    config = load_config(tmp_path / "my.yaml")
    assert config.server.task_timeout_s == 1800
    assert [board.profile.name for board in load_fleet(config.fleet).boards] == [
        "jetson-orin-nano-8",
        "jetson-xavier-nx-8",
        "raspberry-pi-5",
    ]


def test_what_the_trainer_s_python_is_asked_has_the_flags_of_its_commands(capsys: pytest.CaptureFixture[str]) -> None:
    lines = [line.partition("#")[0] for _, line in pages.in_order(GUIDE)]
    asked = [shlex.split(line.split("-m cosp.trainer ")[1]) for line in lines if "-m cosp.trainer s" in line]
    assert {words[0] for words in asked} == {"store", "serve"}
    for words in asked:
        with pytest.raises(SystemExit):
            trainer.main([words[0], "--help"])
        known = capsys.readouterr().out
        assert [word for word in words if word.startswith("--") and word not in known] == []
