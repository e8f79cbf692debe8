"""The ServerApp and the ClientApp, in process, on messages that have been through Flower's own serialisation."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from flwr.app import ConfigRecord, Context, Error, Message, RecordDict
from flwr.serverapp import Grid
from postal import FIRST, PostalGrid

from cosp.config import load_config
from cosp.errors import ConfigError, CospError
from cosp.experiment import load_experiment
from cosp.fleet import load_fleet, load_profile
from cosp.flower.client_app import app as client_app
from cosp.flower.server_app import app as server_app
from cosp.run import checkpoint
from cosp.run.directory import RunDirectory
from cosp.run.measured import predicted_step_s
from cosp.server.greeting import Greeter
from cosp.simulation.simulate import simulate
from cosp.wire.messages import read_task

pytestmark = pytest.mark.integration

CONFIG = {
    "name": "tiny",
    "data": {"name": "digits", "train": 200, "validation": 50, "test": 100, "partition": {"kind": "iid"}},
    "fleet": {"boards": [{"count": 4, "device": "jetson-orin-nano-8", "link": "ethernet", "keep": 0.5}]},
    "jitter": 0.0,
    "model": {"patch": 4, "dim": 16, "blocks": 2, "heads": 2, "hidden": 16, "exits": [1, 2]},
    "method": {"name": "co-s2p", "depth_share": 0.5},  # so that width is pruned and units are scored
    "training": {"epochs": 1, "batch_size": 16},
    "server": {"versions": 3, "quorum": 1.0, "checkpoint_every": 3},
}


class AppGrid(PostalGrid):
    """Carries messages to the ClientApp and back."""

    def __init__(self, nodes: int, run_config: dict[str, Any]) -> None:
        super().__init__(range(FIRST, FIRST + nodes))
        self._contexts = {
            FIRST + i: Context(
                run_id=1,
                node_id=FIRST + i,
                node_config={"partition-id": i, "num-partitions": nodes},
                state=RecordDict(),
                run_config=run_config,
            )
            for i in range(nodes)
        }

    @property
    def kinds(self) -> list[str]:
        return [kind for _, kind in self.asked]

    def answers(self, request: Message) -> Sequence[Message]:
        try:
            return [client_app(request, self._contexts[request.metadata.dst_node_id])]
        except Exception as error:
            return [Message(Error(code=2, reason=f"{type(error)}:<'{error}'>"), reply_to=request)]


def run_config_of(folder: Path) -> dict[str, Any]:
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(CONFIG), encoding="utf-8")
    return {"config": str(path), "out": str(folder / "flower"), "data-dir": "", "set": ""}


def serve(grid: Grid, run_config: dict[str, Any]) -> None:
    server_app(grid, Context(run_id=1, node_id=1, node_config={}, state=RecordDict(), run_config=run_config))


def rows_of(folder: Path, kind: str) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (folder / "rows.jsonl").read_text(encoding="utf-8").splitlines()]
    return [row for row in rows if row["kind"] == kind]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[AppGrid, Path]:
    """The grid and the run directory of one run."""
    folder = tmp_path_factory.mktemp("apps")
    run_config = run_config_of(folder)
    grid = AppGrid(4, run_config)
    serve(grid, run_config)
    return grid, folder / "flower"


def test_synchronous_rounds_of_equal_boards_give_the_simulators_model_bit_for_bit(run, tmp_path):
    """Equal boards with equally many samples arrive in the same order on either clock, so sums round alike."""
    _, folder = run
    config = load_config(folder.parent / "tiny.yaml")
    directory = RunDirectory.create(tmp_path / "virtual", config)
    simulate(load_experiment(config), directory, workers=1)
    ours, theirs = checkpoint.load(folder / "checkpoint"), checkpoint.load(directory.checkpoints)
    assert ours is not None
    assert theirs is not None
    names = [name for name in ours.tensors if name.startswith("version/3/")]
    assert len(names) > 10
    assert names == [name for name in theirs.tensors if name.startswith("version/3/")]
    for name in names:
        assert torch.equal(ours.tensors[name], theirs.tensors[name]), name


def test_every_message_type_was_used(run):
    grid, _ = run
    assert grid.kinds == ["query"] * 4 + ["query.score"] * 4 + ["train"] * 12


def test_the_spans_of_a_task_fill_the_time_it_was_out(run):
    _, folder = run
    for row in rows_of(folder, "arrival"):
        assert row["accepted"], row
        spans = row["download_s"] + row["compute_s"] + row["upload_s"]
        assert row["sent_s"] + spans == pytest.approx(row["arrived_s"])
        assert 0 < row["compute_s"] <= spans


def test_wall_time_stands_for_virtual_time_and_no_energy_is_made_up(run):
    _, folder = run
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    times = [row["virtual_s"] for row in rows_of(folder, "round")]
    assert times == sorted(times)
    assert 0 < metrics["virtual_time_s"] <= metrics["wall_time_s"]
    assert metrics["energy_j"] == 0
    assert metrics["rounds"] == 3


def test_a_second_run_does_not_write_over_the_first(run):
    _, folder = run
    with pytest.raises(CospError, match="holds a run already"):
        serve(AppGrid(4, {}), run_config_of(folder.parent))


class DyingGrid(AppGrid):
    """Fails for good when the server sends its third round of training tasks."""

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        if self.kinds.count("train") >= 8:
            raise ConnectionError("SuperLink is gone")
        return super().push_messages(messages)


def test_a_run_that_broke_off_goes_on_from_its_checkpoint(tmp_path):
    run_config = run_config_of(tmp_path) | {"set": "server.checkpoint_every=1"}
    with pytest.raises(ConnectionError):
        serve(DyingGrid(4, run_config), run_config)
    serve(AppGrid(4, run_config), run_config | {"resume": True})
    folder = tmp_path / "flower"
    assert [row["version"] for row in rows_of(folder, "round")] == [0, 1, 2, 3]
    (resumed,) = rows_of(folder, "resume")
    assert resumed["version"] == 2
    tasks = [(row["client"], row["base_version"]) for row in rows_of(folder, "arrival") if row["task"] == "train"]
    assert sorted(tasks) == [(client, version) for client in range(4) for version in range(3)]
    times = [row["virtual_s"] for row in rows_of(folder, "round")]
    assert times == sorted(times)


def test_tasks_in_flight_when_a_run_broke_off_are_named_and_asked_for_again(tmp_path):
    """With a quorum of half, two of four tasks are under way when a checkpoint is written."""
    run_config = run_config_of(tmp_path) | {"set": "server.checkpoint_every=1 server.quorum=2"}
    with pytest.raises(ConnectionError):
        serve(OneAtATime(4, run_config, fails_after=5), run_config)
    serve(AppGrid(4, run_config), run_config | {"resume": True})
    folder = tmp_path / "flower"
    lost = [row for row in rows_of(folder, "arrival") if row["reason"] == "server-restarted"]
    assert lost
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["refused"] == {"server-restarted": len(lost)}
    merged = [(row["client"], row["base_version"]) for row in rows_of(folder, "arrival") if row["weight"] > 0]
    assert len(merged) == len(set(merged))


class SlowClient(AppGrid):
    """Every client takes what its board is said to take for a step, but client 2 three times as long.

    None declares a speed, as real boards do not.
    """

    def __init__(self, nodes: int, run_config: dict[str, Any]) -> None:
        super().__init__(nodes, run_config)
        self._boards = load_experiment(load_config(Path(run_config["config"]))).boards
        self._requests: dict[str, Message] = {}

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        return [self._timed(reply) for reply in super().pull_messages(message_ids)]

    def _push(self, message: Message) -> str:
        message_id = super()._push(message)
        self._requests[message_id] = message
        return message_id

    def _timed(self, reply: Message) -> Message:
        facts = json.loads(str(reply.content["result"]["json"]))
        if reply.metadata.message_type == "query":
            facts["speed"] = None
        elif reply.metadata.message_type == "train":
            task = read_task(self._requests[reply.metadata.reply_to_message_id])
            step_s = predicted_step_s(task, self._boards[task.client], samples=facts["samples"])
            facts["wall_step_s"] = step_s * (3 if task.client == 2 else 1)
        reply.content["result"] = ConfigRecord({"json": json.dumps(facts)})
        return reply


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run directory of a fleet of which client 2 is slower than declared, with a target round time."""
    folder = tmp_path_factory.mktemp("slow")
    target = "assignment={rule: time, target_round_s: 0.015}"  # by declaration, the whole model takes half of it
    run_config = run_config_of(folder) | {"set": f"'{target}' server.versions=6 server.checkpoint_every=1"}
    serve(SlowClient(4, run_config), run_config)
    assert rows_of(folder / "flower", "round")[-1]["version"] == 6
    return folder / "flower"


def test_a_client_that_is_slower_than_declared_gets_a_smaller_plan(slow):
    (told,) = rows_of(slow, "budget")
    assert (told["client"], told["slowdown"], told["sits_out"]) == (2, pytest.approx(3.0), None)
    sizes = {client: [row["parameters"] for row in rows_of(slow, "arrival")
                      if row["client"] == client and row["task"] == "train"] for client in range(4)}  # fmt: skip
    whole = max(sizes[0])
    assert sizes[0] == sizes[1] == sizes[3] == [whole] * 6
    assert sizes[2][:3] == [whole] * 3  # as many tasks as it takes to believe it
    assert all(size < whole for size in sizes[2][3:])


def test_measured_profiles_can_be_named_by_a_fleet(slow):
    boards = [{"device": str(slow / "profiles" / f"client-{client}.yaml"), "link": "ethernet"} for client in (0, 2)]
    as_declared, slower = (board.profile for board in load_fleet({"boards": boards}).boards)
    declared = load_profile("jetson-orin-nano-8")
    assert as_declared.flops_per_s == pytest.approx(declared.flops_per_s)
    assert slower.flops_per_s == pytest.approx(declared.flops_per_s / 3)
    assert slower.calibration == "corrected by 3.00 from 6 tasks that it trained"


def test_a_resumed_run_plans_by_what_was_measured_before(slow, tmp_path):
    shutil.copytree(slow, tmp_path / "flower")
    target = "assignment={rule: time, target_round_s: 0.015}"
    run_config = run_config_of(tmp_path) | {"set": f"'{target}' server.versions=7", "resume": True}
    serve(SlowClient(4, run_config), run_config)
    assert len(rows_of(tmp_path / "flower", "budget")) == 1
    sizes = [row["parameters"] for row in rows_of(tmp_path / "flower", "arrival") if row["client"] == 2]
    assert sizes[-1] == sizes[-2] < sizes[0]


class OneAtATime(AppGrid):
    """Gives out one reply at a time, and fails for good when more than ``fails_after`` training tasks were sent."""

    def __init__(self, nodes: int, run_config: dict[str, Any], *, fails_after: int) -> None:
        super().__init__(nodes, run_config)
        self._fails_after = fails_after

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        if self.kinds.count("train") > self._fails_after:
            raise ConnectionError("SuperLink is gone")
        return super().push_messages(messages)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        return super().pull_messages(list(message_ids)[:1])


def test_too_few_nodes_are_an_error_that_says_how_many(tmp_path):
    run_config = run_config_of(tmp_path)
    with pytest.raises(CospError, match="3 nodes take part, the fleet has 4 boards; set num-supernodes=4"):
        Greeter(AppGrid(3, run_config), 4).greet(timeout_s=300.0)


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"config": ""}, "config is missing"),
        ({"config": "tiny.yaml"}, "config: must be an absolute path"),
        ({"config": "/nowhere/tiny.yaml"}, "cannot be read"),
        ({"out": ""}, "out is missing"),
        ({"set": "server.versions"}, "must be key=value"),
        ({"set": "name='tiny"}, "cannot be split"),
    ],
)
def test_a_run_config_that_does_not_fit_is_one_line(tmp_path, change, rule):
    run_config = run_config_of(tmp_path) | change
    with pytest.raises(ConfigError, match=rule):
        serve(AppGrid(4, run_config), run_config)
