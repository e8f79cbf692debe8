"""What a task costs beside computing over a real server: cosp's ClientApp and trainer, beside Flower's own no-op app.

Both get one board, TLS, keys and the same payload on the same server, one after the other. Flower starts a process for
every task and polls for it; what cosp adds to that is the hand-over to the trainer. Takes minutes.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "deploy"))

from deployment import Deployment, until

from cosp.deployment import control
from cosp.deployment.control import Control

TASKS = 8
CONFIG = {
    "name": "overhead",
    "data": {"name": "digits", "partition": {"kind": "iid"}},
    "fleet": {"boards": [{"count": 1, "device": "jetson-orin-nano-8", "link": "ethernet", "keep": 1.0}]},
    "model": {"patch": 4, "dim": 64, "blocks": 4, "heads": 4, "hidden": 256, "exits": [1, 2, 3, 4]},
    "method": {"name": "fedavg"},
    "training": {"epochs": 1, "batch_size": 64},
    "server": {"versions": TASKS, "quorum": 1.0, "evaluate_every": TASKS},
}
PYPROJECT = """
[project]
name = "noop"
version = "1.0.0"
description = "replies with what it got"
license = "Apache-2.0"
dependencies = []
[tool.flwr.app]
publisher = "cosp"
[tool.flwr.app.components]
serverapp = "noop.app:server"
clientapp = "noop.app:client"
[tool.flwr.app.config]
out = ""
floats = 0
tasks = 0
"""
APP = """
import json, time
from pathlib import Path
import numpy as np
from flwr.app import Array, ArrayRecord, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp

server = ServerApp()
client = ClientApp()

@client.train()
def reply(message, context):
    return Message(message.content, reply_to=message)

@server.main()
def main(grid, context):
    config, seconds = context.run_config, []
    for n in range(config["tasks"]):
        record = ArrayRecord()
        record["vector"] = Array(np.random.default_rng(n).random(config["floats"], np.float32))
        (node,) = grid.get_node_ids()
        begun = time.monotonic()
        message = Message(RecordDict({"arrays": record}), dst_node_id=node, message_type="train")
        waiting = list(grid.push_messages([message]))
        while not list(grid.pull_messages(waiting)):
            time.sleep(0.2)
        seconds.append(time.monotonic() - begun)
    Path(config["out"]).write_text(json.dumps(seconds))
"""


def floats_of_a_task(rows: list[dict[str, object]]) -> int:
    return int(next(row["parameters"] for row in rows if row["kind"] == "run"))


def noop_s(deployment: Deployment, floats: int) -> list[float]:
    """Return the round trips of Flower's no-op app."""
    app, out = deployment.folder / "noop-app", deployment.folder / "noop.json"
    (app / "noop").mkdir(parents=True)
    (app / "pyproject.toml").write_text(PYPROJECT)
    (app / "noop" / "__init__.py").touch()
    (app / "noop" / "app.py").write_text(APP)
    control.app_folder = lambda: app
    Control(deployment.folder / "cosp-state").start({"out": str(out), "floats": floats, "tasks": TASKS})
    until(out.exists, "the no-op app has finished", 600)
    return list(json.loads(out.read_text()))


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, Deployment(Path(folder), CONFIG) as deployment:
        deployment.make_keys(1)
        deployment.cosp("store", str(deployment.config), "--out", "stores")
        deployment.start_server()
        deployment.start_trainer(0)
        deployment.start_client(0)
        deployment.start_run()
        deployment.wait_for_run(600)
        rows = deployment.arrivals()
        ours = [row["arrived_s"] - row["sent_s"] - row["compute_s"] for row in rows if row["task"] == "train"]
        floats = floats_of_a_task(deployment.rows())
        theirs = noop_s(deployment, floats)
    for name, seconds in (("cosp, without computing", ours), ("Flower's no-op app", theirs)):
        middle, low, high = statistics.median(seconds[1:]), min(seconds[1:]), max(seconds[1:])
        print(f"{name:<24} {middle:6.2f} s a task (from {low:.2f} to {high:.2f}, {len(seconds) - 1} tasks)")
    print(f"payload: {4 * floats / 1e6:.2f} MB each way")


if __name__ == "__main__":
    main()
