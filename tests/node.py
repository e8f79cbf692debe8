"""A board's node: the ClientApp in a process of its own that has no torch, as Flower starts one for every task."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from cosp.task.serial import task_to_json
from cosp.task.task import Task

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = """
import json, sys
sys.modules["torch"] = None
from flwr.app import Array, ConfigRecord, Context, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity
import numpy as np
from cosp.wire import records
from cosp.flower.client_app import app
TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1
task, vectors, socket, words = json.loads(sys.argv[1])
client, kind = json.loads(task)["client"], json.loads(task)["kind"]
node = {"partition-id": client, "trainer-socket": socket, "board": "nano", "keep": 0.5}
context = Context(run_id=1, node_id=5, node_config=node, state=RecordDict(), run_config={})
def ask(content, kind):
    message = Message(content, dst_node_id=5, message_type=kind, group_id="0")
    message.metadata.__dict__["_message_id"] = "m"
    return app(message, context)
who = ask(records.introduction_question(words=words), "query").content["result"]["json"]
content = records.instruction_content(records.JsonRecord(json.loads(task)), Array(np.load(vectors + "/sent.npy")))
reply = ask(content, "train" if kind == "train" else "query.score")
np.save(vectors + "/found.npy", reply.content["arrays"]["vector"].numpy())
print(json.dumps([json.loads(who), json.loads(reply.content["result"]["json"])]))
"""


def done_by_node(
    socket: Path, task: Task, weights: np.ndarray, *, words: bool = False
) -> tuple[dict[str, Any], dict[str, Any], np.ndarray]:
    """Have a node with a trainer at ``socket`` do ``task``; return its introduction, the task's facts and vector.

    ``words``: it is asked for those of its texts, too.
    """
    with tempfile.TemporaryDirectory() as folder:
        np.save(f"{folder}/sent.npy", weights)
        argument = json.dumps([task_to_json(task), folder, str(socket), words])
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run([sys.executable, "-c", SCRIPT, argument], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        who, facts = json.loads(done.stdout)
        return who, facts, np.load(f"{folder}/found.npy")
