"""A Dockerfile played in a folder and a virtual environment: for machines without a container engine.

It does what our Dockerfiles ask of an image: COPY, ENV, the ``pip install`` in RUN, ENTRYPOINT, CMD and HEALTHCHECK.
Users, packages of the base image, and what belongs to the kernel (namespaces, rights) are not played.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dockerfile_parse import DockerfileParser

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("/opt/cosp", "/run/cosp", "/run/secrets", "/store", "/state", "/runs", "/data", "/tmp")
"""What our images and compose files name by absolute path."""

STOP_S = 300.0
"""A process that has loaded torch may take a minute to go on a busy machine."""


def instructions(dockerfile: Path) -> list[tuple[str, str]]:
    with dockerfile.open("rb") as file:
        found: list[dict[str, Any]] = DockerfileParser(fileobj=file).structure
    return [(one["instruction"], one["value"]) for one in found if one["instruction"] != "COMMENT"]


def last(dockerfile: Path, instruction: str) -> str:
    """Return the value of the last such instruction, which is the one that counts."""
    return [value for name, value in instructions(dockerfile) if name == instruction][-1]


class FolderImage:
    """The image of ``dockerfile`` under ``folder``; ``python`` is the base's, an environment's ``bin/python``.

    ``ports``: other ports for those that the image names, as this machine's may be taken.
    """

    def __init__(self, dockerfile: Path, folder: Path, python: Path, ports: Mapping[int, int] = {}) -> None:
        self.dockerfile, self.folder, self.python, self.ports = dockerfile, folder, python, ports
        self._environment = dict(os.environ, PATH=f"{python.parent}{os.pathsep}{os.environ['PATH']}")
        self._environment["PYTHONPATH"] = str(self.inside("/opt/cosp"))  # as if installed from there
        for path in FOLDERS:
            self.inside(path).mkdir(parents=True, exist_ok=True)
        for name, value in instructions(dockerfile):
            if name == "COPY":
                *sources, target = value.split()
                self._copy(sources, self.inside("/opt/cosp") / target)
            elif name == "ENV":
                pairs = dict(re.findall(r"(\w+)=(\S+)", value))
                self._environment.update({key: self._placed(text) for key, text in pairs.items()})

    def inside(self, path: str) -> Path:
        """Return where a path of the image lies here."""
        return self.folder / path.lstrip("/")

    def install(self) -> None:
        """Run the RUN instructions that install packages, without the index that only their comment explains."""
        for name, value in instructions(self.dockerfile):
            if name == "RUN" and "pip install" in value:
                command = value.replace('--extra-index-url "$TORCH_INDEX"', "")
                subprocess.run(command, shell=True, check=True, cwd=self.inside("/opt/cosp"), env=self._environment)

    @contextmanager
    def running(self, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
        """Start the entry point, with ``arguments`` in the place of CMD if there are any, and stop it at the end."""
        command = [*json.loads(last(self.dockerfile, "ENTRYPOINT")), *(arguments or self._default())]
        process = subprocess.Popen(self._resolved(command), cwd=self.inside("/opt/cosp"), env=self._environment)
        try:
            yield process
        finally:
            process.terminate()  # what `docker stop` sends
            try:
                process.wait(timeout=STOP_S)
            finally:
                process.kill()
                process.wait()

    def output(self, *command: str) -> str:
        """Run a command in the image to its end, as ``docker exec`` does, and return what it printed."""
        done = subprocess.run(
            self._resolved(list(command)),
            cwd=self.inside("/opt/cosp"),
            env=self._environment,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        return done.stdout

    def healthy(self) -> bool:
        """Run the health check; True if it says so."""
        command = json.loads(last(self.dockerfile, "HEALTHCHECK").partition("CMD ")[2])
        done = subprocess.run(
            self._resolved(command), env=self._environment, cwd=self.inside("/opt/cosp"), capture_output=True
        )
        return done.returncode == 0

    def _default(self) -> list[str]:
        found: list[str] = json.loads(last(self.dockerfile, "CMD"))
        return found

    def _copy(self, sources: list[str], target: Path) -> None:
        for source in sources:
            path = ROOT / source
            if path.is_dir():
                shutil.copytree(path, target, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
            else:
                shutil.copy(path, target if len(sources) == 1 and not target.is_dir() else target / path.name)

    def _resolved(self, command: list[str]) -> list[str]:
        program, *rest = (self._placed(word) for word in command)
        if program == "cosp" and not (self.python.parent / program).exists():
            return [str(self.python), "-m", "cosp.cli", *rest]  # its script is there only where cosp is installed
        return [str(self.python if program.startswith("python") else self.python.parent / program), *rest]

    def _placed(self, text: str) -> str:
        """Return ``text`` with the paths of the image put where they lie here; what lies beside the image stays."""
        if str(self.folder.parent) in text:
            return text
        pattern = "|".join(re.escape(path) for path in FOLDERS)
        placed = re.sub(rf"(?<![\w/])({pattern})(?=/|$)", lambda found: str(self.inside(found.group(1))), text)
        for port, other in self.ports.items():
            placed = re.sub(rf"(?<=[, :]){port}(?=[,)]|$)", str(other), placed)
        return placed
