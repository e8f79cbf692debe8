"""Compose files: of the form that the Compose specification gives them, and with what we promise in them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from cosp.board.probe import probe
from cosp.deployment.supervise import GRACE_S

jsonschema = pytest.importorskip("jsonschema")

HERE = Path(__file__).parent
FOLDER = HERE.parents[1] / "docker"
FILES = sorted(FOLDER.glob("compose.*.yaml"))
each = pytest.mark.parametrize("file", FILES, ids=lambda path: path.stem)


def read(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((FOLDER / name).read_text(encoding="utf-8"))
    return found


@each
def test_it_has_the_form_of_a_compose_file(file: Path) -> None:
    schema = json.loads((HERE / "compose-spec.json").read_text(encoding="utf-8"))
    jsonschema.Draft7Validator(schema).validate(read(file.name))


def test_a_wrong_key_would_be_found() -> None:
    schema = json.loads((HERE / "compose-spec.json").read_text(encoding="utf-8"))
    with pytest.raises(jsonschema.ValidationError, match="volume"):
        jsonschema.Draft7Validator(schema).validate({"services": {"node": {"volume": []}}})


SERVICES = [
    (name, service) for name in ("compose.server.yaml", "compose.board.yaml") for service in read(name)["services"]
]


@pytest.mark.parametrize(("name", "service"), SERVICES)
def test_a_service_has_no_rights_that_it_does_not_need(name: str, service: str) -> None:
    found = read(name)["services"][service]
    assert found["cap_drop"] == ["ALL"]
    assert found["security_opt"] == ["no-new-privileges:true"]
    assert found["read_only"] is True
    assert "privileged" not in found
    assert found["user"] == "${COSP_UID:-10001}:${COSP_GID:-10001}"


@pytest.mark.parametrize(("name", "service"), SERVICES)
def test_a_service_ends_in_order_and_fills_no_disk_with_its_log(name: str, service: str) -> None:
    found = read(name)["services"][service]
    assert found["init"] is True  # what its processes leave is waited for
    assert float(found["stop_grace_period"].removesuffix("s")) > 2 * GRACE_S
    assert found["logging"]["options"].keys() == {"max-size", "max-file"}


def test_a_healthy_node_is_one_that_the_server_accepts() -> None:
    """The check has the flags of the command itself, so that it looks at what the node uses."""
    node = read("compose.board.yaml")["services"]["node"]
    command, check = node["command"], node["healthcheck"]["test"]
    assert check[:6] == ["CMD", "python", "-m", "cosp.cli", "client", "--check"]
    assert [re.sub(r":\?[^}]*", "", word) for word in check[6:]] == [re.sub(r":\?[^}]*", "", word) for word in command]


@pytest.mark.parametrize(("name", "service"), SERVICES)
def test_a_service_comes_back_by_itself(name: str, service: str) -> None:
    assert read(name)["services"][service]["restart"] == "unless-stopped"


@pytest.mark.parametrize(("name", "service"), SERVICES)
def test_its_image_is_built_from_a_dockerfile_that_is_there(name: str, service: str) -> None:
    assert (FOLDER.parent / read(name)["services"][service]["build"]["dockerfile"]).is_file()


@each
def test_secrets_are_files_and_in_no_environment(file: Path) -> None:
    found = read(file.name)
    assert all(secret.keys() == {"file"} for secret in found.get("secrets", {}).values())
    environments = [service.get("environment", {}) for service in found["services"].values()]
    assert not re.search(r"key|token|secret|password", json.dumps(environments), re.IGNORECASE)


def test_trainer_and_node_share_a_socket_and_nothing_else() -> None:
    services = read("compose.board.yaml")["services"]
    shared = {name: set(service["volumes"]) for name, service in services.items()}
    assert shared["trainer"] & shared["node"] == {"sockets:/run/cosp"}
    assert services["trainer"]["network_mode"] == "none"  # a board's data have no way out but the node's update


@pytest.mark.parametrize("name", ["compose.jetson.yaml", "compose.pi.yaml"])
def test_an_overlay_adds_only_to_the_services_of_a_board(name: str) -> None:
    assert read(name)["services"].keys() <= read("compose.board.yaml")["services"].keys()


@pytest.mark.parametrize("name", ["compose.jetson.yaml", "compose.pi.yaml"])
def test_what_a_board_is_known_by_is_mounted_where_it_is_looked_for(name: str, board_root, tmp_path: Path) -> None:
    node = read(name)["services"]["node"]
    board = board_root({"compose.jetson.yaml": "jetson-orin-nano-8", "compose.pi.yaml": "raspberry-pi-5"}[name])
    for volume in node["volumes"]:
        source, target, mode = volume.split(":")
        mounted = tmp_path / "container" / target.lstrip("/")
        mounted.parent.mkdir(parents=True, exist_ok=True)
        mounted.symlink_to(board / source.lstrip("/"))
        assert mode == "ro"
    seen = tmp_path / "container" / node["environment"]["COSP_ROOT"].lstrip("/")
    assert probe(seen).board == board.name
