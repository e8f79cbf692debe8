"""The ClientApp on a board: it hands over, and imports no torch, because Flower starts it anew for every task."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cosp.client.store import BoardStore, write_board_store
from cosp.client.trainer import ClientSamples
from cosp.client.training import Samples

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = """
import json, sys
sys.modules["torch"] = None
from flwr.app import Array, ConfigRecord, Context, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity
import numpy as np
from cosp import records
from cosp.client.app import app
TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1
task, parameters, socket = json.loads(sys.argv[1])
node = {"partition-id": 3, "trainer-socket": socket, "board": "nano", "keep": 0.5}
context = Context(run_id=1, node_id=5, node_config=node, state=RecordDict(), run_config={})
def ask(content, kind):
    message = Message(content, dst_node_id=5, message_type=kind, group_id="0")
    message.metadata.__dict__["_message_id"] = "m"
    return app(message, context)
who = ask(RecordDict(), "query").content["result"]["json"]
content = records.instruction_content(records.JsonRecord(json.loads(task)), Array(np.zeros(parameters, np.float32)))
reply = ask(content, "train")
facts = json.loads(reply.content["result"]["json"])
print(json.dumps([json.loads(who), facts, list(reply.content["arrays"]["vector"].shape)]))
"""


@pytest.fixture
def socket(tmp_path):
    rng = np.random.default_rng(0)

    def samples(count: int) -> Samples:
        return Samples(rng.normal(size=(count, 1, 4, 4)).astype(np.float32), np.arange(count) % 3)

    write_board_store(tmp_path / "store", BoardStore(ClientSamples(samples(10), samples(4)), ("a", "b", "c")))
    command = [sys.executable, "-m", "cosp.trainer", "--data", str(tmp_path / "store")]
    command += ["--socket", str(tmp_path / "trainer.sock"), "--threads", "1"]
    process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)})
    yield tmp_path / "trainer.sock"
    process.terminate()
    process.wait()


def test_it_introduces_itself_and_works_without_torch(socket):
    from small_models import SMALL

    from cosp.client.task import Task
    from cosp.client.training import TrainSettings
    from cosp.server.introduction import Introduction

    settings = TrainSettings(epochs=1, batch_size=4)
    task = Task("train", 3, 0, 0, 1, SMALL, SMALL.full_plan(), training=settings)
    argument = json.dumps([task.to_json(), task.parameters, str(socket)])
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", SCRIPT, argument], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    who, facts, shape = json.loads(done.stdout)
    found = Introduction(**{**who, "class_counts": tuple(who["class_counts"])})
    assert (found.client, found.board, found.keep, found.samples, found.test_samples) == (3, "nano", 0.5, 10, 4)
    assert found.class_counts == (4, 3, 3)
    assert facts["samples"] == 10
    assert shape == [task.parameters]
