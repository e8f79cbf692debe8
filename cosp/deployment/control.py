"""What the server's keeper asks of a running SuperLink: let boards in and out, say who is there, start and end runs.

It asks in this process, but for starting a run: what the ``flwr`` command packs then is its own business. Private names
of Flower are used in this file, and the tests of deployments hold them to what Flower does.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import httpx
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_ssh_public_key
from flwr.proto.control_pb2 import (
    ListNodesRequest,
    ListRunsRequest,
    RegisterNodeRequest,
    StopRunRequest,
    StreamLogsRequest,
    UnregisterNodeRequest,
)
from flwr.supercore.control import ControlHttpClient
from flwr.supercore.error import ApiErrorCode, FlowerError
from flwr.supercore.interceptors.http.runtime_version import RuntimeVersionHttpInterceptor
from flwr.supercore.primitives.asymmetric import public_key_to_bytes

from cosp.deployment.superlink import CONNECTION, binary, flower_environment, home_of
from cosp.errors import CospError, UserError
from cosp.files import write_whole
from cosp.held import scratch_folder

RunConfig = Mapping[str, str | bool | int]
Answer = TypeVar("Answer")
GONE = "unregistered"
_PACKAGE = Path(__file__).resolve().parents[1]


class Refused(CospError):
    """SuperLink does not do what it was asked; ``code`` is Flower's."""

    def __init__(self, code: int, said: str) -> None:
        super().__init__(said)
        self.code = code


class Control:
    """The SuperLink whose state folder is ``state``; UserError if nothing was ever started there."""

    def __init__(self, state: Path) -> None:
        config = home_of(state) / "config.toml"
        if not config.is_file():
            raise UserError(f"{state}: no server's state; start one: cosp server start --state {state} --keys KEYS")
        self._environment = flower_environment(home_of(state))
        os.environ.update({name: self._environment[name] for name in ("no_proxy", "NO_PROXY")})  # httpx reads it there
        known = tomllib.loads(config.read_text(encoding="utf-8"))["superlink"][CONNECTION]
        self._address: str = known["address"]
        self._authority: str | None = known.get("root-certificates")
        self._last = state / "last-run.json"

    def admit(self, public_key: Path, name: str) -> bool:
        """Let the board with ``public_key`` in; False if it was already."""
        if not public_key.is_file():
            raise UserError(f"{public_key}: is no file; give boards' public keys, as cosp keys node makes them")
        try:
            key = load_ssh_public_key(public_key.read_bytes())
        except (ValueError, OSError) as error:
            raise CospError(f"{public_key}: not admitted: is no public key ({error})") from None
        if not isinstance(key, ec.EllipticCurvePublicKey):
            raise CospError(f"{public_key}: not admitted: is no key of an elliptic curve; cosp keys node makes them")
        request = RegisterNodeRequest(public_key=public_key_to_bytes(key), name=name)
        try:
            self._ask(lambda client: client.RegisterNode(request))
        except Refused as refused:
            if refused.code == ApiErrorCode.PUBLIC_KEY_ALREADY_IN_USE:
                return False
            raise CospError(f"{public_key}: not admitted: {refused}") from None
        return True

    def nodes(self) -> list[dict[str, Any]]:
        """Return of every board that is admitted ``node-id``, ``name``, ``status`` and when that changed."""
        found = self._ask(lambda client: client.ListNodes(ListNodesRequest())).nodes_info
        return [
            {
                "node-id": str(node.node_id),
                "name": node.name,
                "status": node.status,
                "admitted-at": node.registered_at,
                "online-at": node.last_activated_at or None,
                "offline-at": node.last_deactivated_at or None,
            }
            for node in sorted(found, key=lambda node: str(node.registered_at))
            if node.status != GONE
        ]

    def remove(self, board: str) -> str:
        """Let a board, by its name or its node's number, in no more; return its node. UserError if there is none."""
        known = self.nodes()
        found = [node["node-id"] for node in known if board in (node["name"], node["node-id"])]
        if not found:
            names = ", ".join(node["name"] or node["node-id"] for node in known) or "none"
            raise UserError(f"server remove: {board}: is no admitted board; those are: {names}")
        for node in found:
            self._unregister(int(node))
        return ", ".join(found)

    def _unregister(self, node: int) -> None:
        self._ask(lambda client: client.UnregisterNode(UnregisterNodeRequest(node_id=node)))

    def start(self, run_config: RunConfig) -> str:
        """Start a run of cosp's app, remember it as the last one, and return its number."""
        words = [f"{key}={json.dumps(value)}" for key, value in run_config.items() if value != ""]
        with scratch_folder("app") as folder:  # flwr writes beside the app, which may be shared
            app = shutil.copytree(app_folder(), folder / "app")
            run = str(self._said("run", str(app), CONNECTION, "--run-config", " ".join(words))["run-id"])
        write_whole(self._last, json.dumps({"run": run, "config": dict(run_config)}))
        return run

    def last(self) -> tuple[str, dict[str, Any]]:
        """Return the number of the run that was started last, and with what; UserError if none was."""
        try:
            known = json.loads(self._last.read_text(encoding="utf-8"))
            return str(known["run"]), dict(known["config"])
        except (OSError, ValueError, KeyError, TypeError):
            raise UserError(f"{self._last}: no run was started here; start one: cosp server run CONFIG") from None

    def status(self, run: str) -> tuple[str, str]:
        """Return a run's status, e.g. "running" or "finished:completed", and what there is to say about it."""
        found = self._ask(lambda client: client.ListRuns(ListRunsRequest(run_id=int(run)))).run_dict
        if int(run) not in found:
            return "unknown", ""
        status = found[int(run)].status
        return ":".join(filter(None, (status.status, status.sub_status))), status.details

    def stop(self, run: str) -> bool:
        """End a run; False if it had ended."""
        return bool(self._ask(lambda client: client.StopRun(StopRunRequest(run_id=int(run)))).success)

    def logs(self, run: str) -> Iterator[str]:
        """Yield what a run's ServerApp says, until it has ended."""
        with self._client() as client:
            try:
                for part in client.StreamLogs(StreamLogsRequest(run_id=int(run), after_timestamp=0.0)):
                    yield part.log_output
            except httpx.HTTPError as error:
                raise self._named(error) from None

    def _client(self) -> ControlHttpClient:
        authority = None if self._authority is None else Path(self._authority).read_bytes()
        return ControlHttpClient.from_server_address(
            self._address,
            authority is None,
            authority,
            interceptors=[RuntimeVersionHttpInterceptor(component_name="flwr CLI")],
        )

    def _ask(self, question: Callable[[ControlHttpClient], Answer]) -> Answer:
        """Return the answer; CospError if there is none, Refused if it is no."""
        try:
            with self._client() as client:
                return question(client)
        except (httpx.HTTPError, OSError) as error:
            raise self._named(error) from None

    def _named(self, error: Exception) -> CospError:
        if isinstance(error, httpx.HTTPStatusError):
            error.response.read()
            if said := FlowerError.from_json(error.response.text):
                return Refused(int(said.code), f"SuperLink: {said.message}")
        return CospError(
            f"{self._address}: SuperLink does not answer ({error}); is the server running? See cosp doctor"
        )

    def _said(self, *words: str) -> dict[str, Any]:
        """Return the JSON that a ``flwr`` command prints; CospError if it prints none, or that it failed."""
        command: Sequence[str] = (binary("flwr"), *words, "--format", "json")
        done = subprocess.run(command, env=self._environment, capture_output=True, text=True, check=False)
        try:
            answer = dict(json.loads(done.stdout[done.stdout.index("{") :]))
        except ValueError:
            said = (done.stderr or done.stdout).strip().splitlines() or ["nothing was said"]
            raise CospError(f"flwr {words[0]} failed: {said[-1]}; is the server running?") from None
        if not answer.get("success"):
            raise CospError(f"flwr {words[0]}: {answer.get('error-message')}")
        return answer


def app_folder() -> Path:
    """Return the folder of the Flower app: beside the package in a checkout, inside it in a wheel."""
    for folder in (_PACKAGE.parent / "flower", _PACKAGE / "_flower"):
        if (folder / "cosp_flower").is_dir():
            return folder
    raise CospError(f"no Flower app beside or in {_PACKAGE}: reinstall cosp")
