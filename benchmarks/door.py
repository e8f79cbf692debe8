"""What the door costs: reading a reply with every check, against taking it as it comes.

One reply of a training task, a ViT of width 192 and 6 blocks, over Flower's bytes. Bare is ``json.loads`` and
``numpy.load``; the door checks size, depth, types and ranges. Beside both stands all that the server does for a reply:
read it, check it, fold it into the round. Prints microseconds (median, the three turn by turn) and ratios.

    python benchmarks/door.py [--repeats 200]
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from cosp.fleet import load_fleet
from cosp.fleet.introduction import Introduction
from cosp.merge.aggregation import OpenRound
from cosp.methods.clients import budget_of
from cosp.models.vit import ViTShape
from cosp.submodel.flat import views
from cosp.submodel.shape import layout_of
from cosp.task.payload import from_payload, to_payload
from cosp.task.task import Task
from cosp.wire import door
from cosp.wire import messages as wire

SHAPE = ViTShape(32, 4, 3, 10, 192, 6, 6, 768, (1, 3, 4, 6))
TASK = Task("train", 0, 0, 0, 0, SHAPE, SHAPE.full_plan())
FACTS: dict[str, Any] = {
    "samples": 500, "loss": 1.5, "local_accuracy_received": 0.5, "local_accuracy_trained": 0.6, "wall_s": 12.5,
    "wall_step_s": 0.25, "wall_peak_rss_bytes": 2**29, "wall_energy_j": 120.0, "wall_power_scope": "VDD_IN",
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=200)
    repeats = parser.parse_args().repeats
    torch.set_num_threads(1)
    reply, text = a_reply(), json.dumps(FACTS)
    data = reply.content["arrays"]["vector"].data
    opened = OpenRound(layout_of(SHAPE), SHAPE.sizes)

    def whole() -> None:
        wire.read_facts(reply, TASK)
        delta = wire.read_update(reply, TASK)
        assert all(bool(torch.isfinite(tensor).all()) for tensor in delta.values())
        opened.fold(TASK.plan, delta, 1.0)

    work: dict[str, Callable[[], object]] = {
        "facts, bare": lambda: json.loads(text),
        "facts, door": lambda: door.facts_of(door.json_of(text), "train", priced=False),
        "array, bare": lambda: views(from_payload(TASK, np.load(BytesIO(data), allow_pickle=False)), TASK.spans),
        "array, door": lambda: wire.read_update(reply, TASK),
        "all that the server does": whole,
    }
    told = introduction()
    work["introduction, door"] = lambda: door.introduction_of(told)
    spent: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(repeats):
        for name, do in work.items():
            started = time.process_time_ns()
            do()
            spent[name].append((time.process_time_ns() - started) / 1e3)
    median = {name: statistics.median(times) for name, times in spent.items()}
    for name, micros in median.items():
        print(f"{name:26} {micros:10,.0f} us")
    door_s = median["facts, door"] + median["array, door"]
    bare_s = median["facts, bare"] + median["array, bare"]
    print(f"a reply through the door takes {door_s / bare_s:.2f} x one that is taken as it comes,")
    share = (door_s - bare_s) / median["all that the server does"]
    print(f"and the difference is {share:+.1%} of the server's work for it")


def a_reply() -> Message:
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1
    request = wire.instruction(TASK, {}, node=1)
    request.metadata.__dict__["_message_id"] = "m"
    vector = torch.randn(TASK.parameters, generator=torch.Generator().manual_seed(0)) * 0.01
    content = RecordDict({
        "result": ConfigRecord({"json": json.dumps(FACTS)}),
        "arrays": ArrayRecord({"vector": Array(to_payload(TASK, vector))}),
    })  # fmt: skip
    return Message(content, reply_to=request)


def introduction() -> dict[str, Any]:
    board = load_fleet("equal4").boards[0]
    told = Introduction(
        client=0, board="nano", link="own", **vars(budget_of(board)), samples=500, test_samples=100,
        class_counts=(50,) * 10,
    )  # fmt: skip
    found: dict[str, Any] = json.loads(
        json.dumps({**vars(told), "speed": None, "class_counts": list(told.class_counts)})
    )
    return found


if __name__ == "__main__":
    main()
