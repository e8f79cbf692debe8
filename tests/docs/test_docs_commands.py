"""Every command of the pages is real: parsed by the program that it calls, and followed where that takes seconds.

What is neither run here nor by another test is in ``NOT_RUN``, with the reason.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import click
import pages
import pytest
import typer

from cosp.cli import main as cli
from cosp.config import has_stream, load_config
from cosp.stream.settings import load_adapt

ROOT = pages.ROOT
PROGRAMS = {
    "cosp": "parsed by its own options, below",
    "make": "its target is in the Makefile",
    "python": "its file is there",
    "git": "needs this repository's address",
    "cd": "the shell's",
    "export": "the shell's",
    "curl": "asks a board that serves; tests/trainer/test_serving.py asks one",
    "docker": "needs a container engine; tests/docker plays the images",
    "uv": "makes the node's Python; tests/deploy plays it",
    "flwr": "needs the extra 'flower'; tests/flower runs it with -m flower",
    "pip": "needs a package registry",
    "pytest": "its folder is there",
    "ray": "needs the extra 'ray'; tests/integration/test_ray.py has clusters with -m ray",
    "sudo": "changes a Jetson",
    "ssh": "needs a second machine",
}
"""What a command may begin with, and how it is known to work."""

FOLLOWED = (pytest.param("README.md", marks=pytest.mark.slow), "docs/simulate.md", "docs/compare.md", "docs/data.md",
            "docs/adaptation.md")  # fmt: skip
"""Pages whose commands of cosp are given as they stand, in order, in an empty folder with ``experiments/``. README's
are those of simulate.md in short.
"""

NOT_RUN = {
    "cosp watch": "serves a page until Ctrl-C; tests/watch opens it",
    "cosp calibrate": "takes 100 s; tests/calibration has it with a small budget",
    "cosp run experiments/dry_10k.yaml --dry": "takes minutes; tests/simulation runs a fleet of its kind",
    "cosp table experiments/fashion_mnist_weak.yaml": "needs Fashion-MNIST, and hours",
    "cosp table experiments/figures/budget.yaml --dry": "takes minutes; compare.md has a smaller table of costs",
    "cosp trainer --data store": "stays; tests/trainer/test_streaming.py starts one",
    "cosp server adapt": "needs boards; tests/deploy/test_adapting.py gives it",
    "cosp report runs/a runs/b --out compare.html": "compare.md makes the two runs",
}
"""Commands of the followed pages that are not given here, by how they begin."""

CUTS = {
    "cosp run experiments/quickstart.yaml": "--workers 1 --set server.versions=2 --set training.epochs=1",
    "cosp adapt experiments/adapt_digits.yaml": "--workers 0 --no-report --set stream.until_s=240",
    "cosp table experiments/tables/digits.yaml": "--jobs 1 --only heterofl --seeds 0 --set server.until_s=0.05",
    "cosp table mine_table.yaml": "--jobs 1 --only heterofl --set server.until_s=0.05",
}
"""What is added to a command that trains, so that it takes seconds."""


def simple(line: str) -> list[list[str]]:
    """Return the commands of a line of shell as words: environment put aside, Pythons and their modules by name."""
    found = []
    for text in re.split(r" && | \| ", line):
        words = shlex.split(re.sub(r"\$\([^)]*\)", "SUBSTITUTED", text))
        while words and re.match(r"[A-Z_]+=", words[0]):
            words = words[1:]
        if words and Path(words[0]).name in ("python", "python3", "pip"):
            words[0] = Path(words[0]).name.rstrip("3")
        own = words[:3] == ["python", "-m", "cosp.trainer"] and words[3:4] in (["store"], ["serve"])
        if words[:2] == ["python", "-m"] and words[2].startswith("cosp.") and not own:
            words = ["cosp", *(["trainer"] if words[2] == "cosp.trainer" else []), *words[3:]]
        found.append(words)
    return [words for words in found if words and words != ["cosp"]]  # a sentence speaks of cosp itself


def commands(page: str) -> list[list[str]]:
    """Return a page's commands: all of its shell blocks, and code in sentences that begins with a program's name."""
    texts = [text for given, text in pages.in_order(pages.read(page)) if given or text.split()[0] in PROGRAMS]
    return [words for text in texts for words in simple(text)]


ALL = sorted({tuple(words) for page in pages.PAGES for words in commands(page)})
OURS = [words[1:] for words in ALL if words[0] == "cosp"]
SHOWN = {block.title for page in pages.PAGES for block in pages.blocks(pages.read(page)) if block.title}
"""Files that a page shows whole."""
BLOCKS = sorted({
    tuple(words) for page in pages.PAGES for given, line in pages.in_order(pages.read(page)) if given
    for words in simple(line) if words[0] == "cosp"
})  # fmt: skip


COSP: click.Command = typer.main.get_command(cli.app)


def parsed(words: tuple[str, ...]) -> tuple[click.Command, dict[str, object]]:
    """Return the command that the words call, and what its own parser makes of them."""
    command = COSP
    rest = list(words)
    while isinstance(command, click.Group):
        assert rest, f"a group of commands: {words}"
        assert rest[0] in command.commands, f"no command {rest[0]!r}"
        command = command.commands[rest.pop(0)]
    with click.Context(command) as context:
        values, extra, _ = command.make_parser(context).parse_args(rest)
    assert extra == []
    return command, values


def starts(line: str, table: dict[str, str]) -> str | None:
    return next((value for begin, value in table.items() if line.startswith(begin)), None)


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_a_command_begins_with_a_program_that_is_known(words: tuple[str, ...]) -> None:
    assert words[0] in PROGRAMS
    if words[0] == "make":
        targets = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
        assert targets
        assert words[1] in targets[1].split()
    if words[0] in ("python", "pytest"):
        named = [word for before, word in pairwise(words) if not before.startswith("--")]
        files = [word for word in named if re.match(r"(?:benchmarks|experiments|tests|docs)/", word)]
        assert [file for file in files if not (ROOT / file).exists() and file not in SHOWN] == []


@pytest.mark.parametrize("words", OURS, ids=" ".join)
def test_a_command_of_cosp_has_its_options(words: tuple[str, ...]) -> None:
    if words[-1] in ("--number", "--host", "--keep"):  # a sentence names an option, without its value
        words = (*words, "0")
    parsed(words)


@pytest.mark.parametrize("words", BLOCKS, ids=" ".join)
def test_a_command_of_a_block_is_whole(words: tuple[str, ...]) -> None:
    command, values = parsed(words[1:])
    missing = [one.name for one in command.params if one.required and values.get(one.name or "") in (None, ())]
    assert missing == []


@pytest.mark.parametrize("words", [words for words in OURS if any(w.startswith("experiments/") for w in words)],
                         ids=" ".join)  # fmt: skip
def test_an_experiment_that_a_command_names_takes_its_settings(words: tuple[str, ...]) -> None:
    (path,) = [ROOT / word for word in words if re.match(r"experiments/.*\.yaml$", word)]
    settings = [value for option, value in pairwise(words) if option == "--set"]
    load = load_adapt if has_stream(path) else load_config
    load(path, [one for one in settings if not one.startswith("table.")])


@pytest.mark.integration
@pytest.mark.parametrize("page", FOLLOWED)
def test_a_page_can_be_followed(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(ROOT / "experiments", tmp_path / "experiments")
    for block in pages.blocks(pages.read(page)):
        if block.title:
            (tmp_path / block.title).write_text(block.text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    given = [line for sh, line in pages.in_order(pages.read(page)) if sh and line.startswith(("cosp ", "python "))]
    assert len(given) > 2
    for line in given:
        if line.startswith("python "):
            subprocess.run([sys.executable, *line.split()[1:]], check=True)
            continue
        if starts(line, NOT_RUN):
            continue
        trains = "--dry" not in line and "--no-run" not in line
        whole = f"{line} {starts(line, CUTS) or ''}" if trains else line
        monkeypatch.setattr("sys.argv", shlex.split(whole))
        with pytest.raises(SystemExit) as stop:
            cli.main()
        assert not stop.value.code, whole
