"""What the server's keeper asks of a running SuperLink: let boards in, say who is there, start runs and see them end.

It speaks through Flower's own ``flwr`` command, as that is what Flower keeps stable.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cosp.deployment.superlink import CONNECTION, binary, flower_environment, home_of
from cosp.errors import CospError, UserError
from cosp.held import scratch_folder

ALREADY_IN = "Public key already in use"
_PACKAGE = Path(__file__).resolve().parents[1]


class Control:
    """The SuperLink whose state folder is ``state``; UserError if nothing was ever started there."""

    def __init__(self, state: Path) -> None:
        if not (home_of(state) / "config.toml").is_file():
            raise UserError(f"{state}: no server's state; start one: cosp server start --state {state} --keys KEYS")
        self._environment = flower_environment(home_of(state))

    def admit(self, public_key: Path, name: str) -> bool:
        """Let the board with ``public_key`` in; False if it was already."""
        if not public_key.is_file():
            raise UserError(f"{public_key}: is no file; give boards' public keys, as cosp keys node makes them")
        answer = self._flwr("supernode", "register", str(public_key), CONNECTION, "--name", name)
        if not answer.get("success") and ALREADY_IN not in str(answer.get("error-message")):
            raise CospError(f"{public_key}: not admitted: {answer.get('error-message')}")
        return bool(answer.get("success"))

    def nodes(self) -> list[dict[str, Any]]:
        """Return Flower's facts of every board ever admitted: ``node-id``, ``status``, times."""
        return list(self._said("supernode", "list", CONNECTION)["nodes"])

    def start(self, run_config: Mapping[str, str | bool | int]) -> str:
        """Start a run of cosp's app and return its number."""
        words = [f"{key}={json.dumps(value)}" for key, value in run_config.items() if value != ""]
        with scratch_folder("app") as folder:  # flwr writes beside the app, which may be shared
            app = shutil.copytree(app_folder(), folder / "app")
            return str(self._said("run", str(app), CONNECTION, "--run-config", " ".join(words))["run-id"])

    def status(self, run: str) -> tuple[str, str]:
        """Return a run's status, e.g. "running" or "finished:completed", and what there is to say about it."""
        found = self._said("list", CONNECTION, "--run-id", run)["runs"]
        return (str(found[0]["status"]), str(found[0].get("status-details", ""))) if found else ("unknown", "")

    def stop(self, run: str) -> None:
        self._said("stop", run, CONNECTION)

    def _said(self, *words: str) -> dict[str, Any]:
        answer = self._flwr(*words)
        if not answer.get("success"):
            raise CospError(f"flwr {words[0]}: {answer.get('error-message')}")
        return answer

    def _flwr(self, *words: str) -> dict[str, Any]:
        """Return the JSON that a ``flwr`` command prints; CospError if it prints none."""
        command: Sequence[str] = (binary("flwr"), *words, "--format", "json")
        done = subprocess.run(command, env=self._environment, capture_output=True, text=True, check=False)
        try:
            return dict(json.loads(done.stdout[done.stdout.index("{") :]))
        except ValueError:
            said = (done.stderr or done.stdout).strip().splitlines() or ["nothing was said"]
            raise CospError(f"flwr {words[0]} failed: {said[-1]}; is the server running?") from None


def app_folder() -> Path:
    """Return the folder of the Flower app: beside the package in a checkout, inside it in a wheel."""
    for folder in (_PACKAGE.parent / "flower", _PACKAGE / "_flower"):
        if (folder / "cosp_flower").is_dir():
            return folder
    raise CospError(f"no Flower app beside or in {_PACKAGE}: reinstall cosp")
