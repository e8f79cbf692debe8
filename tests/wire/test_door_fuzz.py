"""Mutated replies through the real read path: Flower's bytes, the door, the loop, the coordinator.

Nothing that a board sends may raise; a refused reply changes nothing but counts; rows stay JSON without NaN. The
default is a few hundred replies; ``COSP_FUZZ_REPLIES=10000`` tries as many, with other chance each time if
``COSP_FUZZ_SEED`` is another.
"""

from __future__ import annotations

import json
import os
import random
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from puppets import FIRST, Puppets, experiment_with, facts_of, posted, vector_of

from cosp.run.recipe import recipe_of
from cosp.server.admission import Admission
from cosp.server.coordinator import Coordinator
from cosp.server.greeting import Greeter
from cosp.server.loop import Dispatch, Loop, LoopRules
from cosp.submodel.slicing import State
from cosp.task.task import Task
from cosp.wire import door
from cosp.wire import messages as wire

REPLIES = int(os.environ.get("COSP_FUZZ_REPLIES", "300"))
SEED = int(os.environ.get("COSP_FUZZ_SEED", "0"))

HOSTILE: list[Any] = [
    None, True, False, 0, -1, 1, 10**9, 2**63, 10**400, -(10**400), 0.0, -0.0, 1e-308, 1e308, -1e300, 3.5, float("nan"),
    float("inf"), float("-inf"), "", "x", "NaN", "1", "\x1b[31m", "\u202e", "y" * 5000, [], [1], {}, {"a": 1}, [[[]]],
    "[" * 3000, {"keep": True, "memory_bytes": 1e300, "speed": None},
]  # fmt: skip
VALUES = st.sampled_from(HOSTILE) | st.floats() | st.integers() | st.text(max_size=20)
NESTED = st.recursive(VALUES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner))
KEYS = st.sampled_from([*door.TrainFacts.model_fields, *door.FIGURES, "reason", "detail", "figures", "client", "board"])
BUDGET = {"keep": 0.5, "memory_bytes": 10**9, "speed": None}


class Gate:
    """A loop to whose board the next reply can be handed, and what must hold afterwards."""

    def __init__(self) -> None:
        self.experiment = experiment_with()
        boards, clients = self.experiment.boards, self.experiment.introductions
        self.grid = Puppets(self.experiment, {})
        self.rows: list[dict[str, Any]] = []
        self.counts = Counter[str]()
        method = self.experiment.method(clients)
        self.coordinator = Coordinator(
            shape=self.experiment.shape,
            method=method,
            training=self.experiment.config.training,
            model=method.model.initial(self.experiment.initial_model()),
            clients=clients,
            seed=0,
        )
        admission = Admission(boards, simulated=False)
        admission.meet(clients)
        self.loop = Loop(
            self.grid,
            self.coordinator,
            {FIRST + client.client: client.client for client in clients},
            rules=LoopRules(versions=None),
            count=None,
            on_row=self.rows.append,
            admission=admission,
        )
        self.number = 0

    def task(self, kind: str) -> Task:
        """Return a task that the next client would be given."""
        self.number += 1
        client = self.number % len(self.experiment.boards)
        record = self.coordinator.records[client]
        self.coordinator.learn(client, self.experiment.introduction(client).budget)
        if kind == "score":
            record.scores = None
        task = self.coordinator.next_task(client)
        while task.kind != kind:
            self.coordinator.take_scores(task, vector_of(task))
            task = self.coordinator.next_task(client)
        return task

    def hand_over(self, task: Task, change: Callable[[Message, Message], Message]) -> None:
        """Answer ``task`` with what ``change`` makes of an honest reply, and check."""
        node, message_id = FIRST + task.client, f"fuzz-{self.number}"
        request = wire.instruction(task, self.coordinator.weights(task), node=node)
        request.metadata.__dict__["_message_id"] = message_id
        facts = {
            **facts_of(task, self.experiment),
            "wall_energy_j": 1.0,
            "wall_power_scope": "VDD_IN",
            "wall_temperature_c": 60.0,
            "wall_sent_bytes": 10,
            "budget": BUDGET,
        }
        honest = posted(wire.result_reply(request, facts, vector_of(task)))
        try:
            reply = posted(change(request, honest))
        except (ValueError, TypeError, OverflowError):  # Flower itself cannot send it
            self.counts["not sendable"] += 1
            return
        before = self.state()
        self.loop.in_flight[message_id] = Dispatch(task, node, self.loop.now_s())
        self.grid._replies[message_id] = [reply]
        self.rows.clear()
        self.loop._receive()
        arrival = next(row for row in self.rows if row["kind"] == "arrival")
        self.counts[arrival["reason"] or "accepted"] += 1
        for row in self.rows:
            assert len(json.dumps(row, allow_nan=False).encode()) < 4000
        json.dumps(self.loop.ledger.as_json(), allow_nan=False)
        if arrival["accepted"]:
            if self.coordinator.arrivals:
                self.coordinator.close_round([])
            assert all(bool(torch.isfinite(tensor).all()) for tensor in self.coordinator.model.values())
        else:
            assert arrival["reason"] in door.REASONS
            assert same(before, self.state())

    def state(self) -> tuple[int, int, State, Any]:
        """Return all that a refused reply must leave alone: version, arrivals, model and open round, scores."""
        opened = {f"round/{name}": tensor.clone() for name, tensor in self.coordinator._round._numerator.items()}
        model = {name: tensor.clone() for name, tensor in self.coordinator.model.items()}
        scores = {client: record.scores for client, record in self.coordinator.records.items()}
        return self.coordinator.version, self.coordinator.arrivals, model | opened, scores


def same(before: tuple[int, int, State, Any], after: tuple[int, int, State, Any]) -> bool:
    tensors = all(torch.equal(tensor, after[2][name]) for name, tensor in before[2].items())
    return before[:2] == after[:2] and tensors and all(after[3][c] is scores for c, scores in before[3].items())


@pytest.fixture(scope="module")
def gate() -> Iterable[Gate]:
    made = Gate()
    yield made
    print(f"\n{sum(made.counts.values())} replies: {dict(made.counts.most_common())}")


def text_of(value: Any) -> str:
    return json.dumps(value)  # NaN and Infinity as boards write them


def with_text(reply: Message, text: str) -> Message:
    reply.content["result"] = ConfigRecord({"json": text})
    return reply


changes = st.lists(st.tuples(KEYS, st.none() | NESTED.map(lambda value: [value])), min_size=1, max_size=3)


@seed(SEED)
@settings(max_examples=REPLIES // 2, suppress_health_check=list(HealthCheck), database=None)
@given(kind=st.sampled_from(["train", "score"]), edits=changes, as_error=st.sampled_from([0, 0, 0, 2, 1000, 77]))
def test_facts_with_any_values(gate: Gate, kind: str, edits: list[tuple[str, Any]], as_error: int) -> None:
    def change(request: Message, reply: Message) -> Message:
        value = json.loads(str(reply.content["result"]["json"]))
        if as_error:
            value = {"reason": "off", "detail": "gone", "figures": dict.fromkeys(door.FIGURES, 1), "budget": BUDGET}
        for key, new in edits:
            inner = (
                value["figures"]
                if as_error and key in door.FIGURES and isinstance(value.get("figures"), dict)
                else value
            )
            if new is None:
                inner.pop(key, None)
            else:
                inner[key] = new[0]
        if as_error:
            return Message(Error(as_error, text_of(value)), reply_to=request)
        return with_text(reply, text_of(value))

    gate.hand_over(gate.task(kind), change)


def mangled(data: bytes, chance: random.Random) -> bytes:
    """Return ``data`` with some bytes another, gone, doubled, or cut off."""
    found = bytearray(data)
    for _ in range(chance.choice([1, 1, 2, 8])):
        at = chance.randrange(len(found) + 1)
        match chance.randrange(5):
            case 0:
                found[at : at + 1] = bytes([chance.randrange(256)])
            case 1:
                del found[at : at + chance.choice([1, 4, 100])]
            case 2:
                found[at:at] = found[at : at + chance.choice([1, 8, 1000])]
            case 3:
                found[at:at] = chance.choice([b"[" * 500, b"1e999", b"NaN", b"\xff\xfe", b'"' * 3, b"9" * 5000])
            case _:
                del found[at:]
    return bytes(found)


def bytes_changed(chance: random.Random) -> Callable[[Message, Message], Message]:
    """Return a change of a reply's text, of its array's bytes or head, of its records, or to an error."""

    def change(request: Message, reply: Message) -> Message:
        text = str(reply.content["result"]["json"])
        array = reply.content["arrays"]["vector"]
        assert isinstance(array, Array)
        match chance.randrange(8):
            case 0 | 1:
                return with_text(reply, mangled(text.encode(), chance).decode("utf-8", "replace"))
            case 2 | 3:
                data = mangled(array.data, chance)
                reply.content["arrays"] = ArrayRecord({"vector": Array(array.dtype, array.shape, array.stype, data)})
            case 4:
                numbers = array.numpy().copy()
                spot = chance.randrange(max(1, numbers.size))
                other = chance.choice(["float16", "float64", "int8", "uint8", "int64", "complex64", "bool", ">f4"])
                with np.errstate(all="ignore"):
                    if chance.random() < 0.5 and numbers.dtype.kind == "f":
                        numbers[spot : spot + 3] = chance.choice([np.nan, np.inf, 1e30, 3e38, -1e38])
                    else:
                        numbers = numbers.astype(other)
                reply.content["arrays"] = ArrayRecord({"vector": Array(numbers)})
            case 5:
                numbers = np.resize(array.numpy(), chance.choice([0, 1, 7, array.numpy().size + 1, 100_000]))
                reply.content["arrays"] = ArrayRecord({"vector": Array(numbers)})
            case 6:
                wrong: list[RecordDict] = [
                    RecordDict(), RecordDict({"result": MetricRecord({"json": 1.0})}),
                    RecordDict({"result": ConfigRecord({"json": 5}), "arrays": reply.content["arrays"]}),
                    RecordDict({"result": reply.content["arrays"], "arrays": reply.content["result"]}),
                    RecordDict({"result": reply.content["result"], "arrays": ConfigRecord({"vector": b"x"})}),
                    RecordDict({"result": reply.content["result"], "arrays": ArrayRecord({"other": array})}),
                ]  # fmt: skip
                return Message(chance.choice(wrong), reply_to=request)
            case _:
                code = chance.choice([0, 2, 5, 8, door.LOST, -1, 2**31 - 1])
                reason = chance.choice([text, "[" * 100_000, "\x00" * 3, "z" * 1_000_000, ""])
                return Message(
                    Error(code, mangled(reason.encode(), chance).decode("utf-8", "replace")), reply_to=request
                )
        return reply

    return change


def test_bytes_of_any_kind(gate: Gate) -> None:
    for number in range(REPLIES - REPLIES // 2):
        chance = random.Random(f"{SEED}-{number}")
        gate.hand_over(gate.task(chance.choice(["train", "score"])), bytes_changed(chance))


@seed(SEED)
@settings(max_examples=REPLIES // 4, suppress_health_check=list(HealthCheck), database=None)
@given(edits=st.lists(st.tuples(st.text(max_size=4) | st.sampled_from(list(door._Introduction.model_fields)), NESTED)))
def test_introductions_with_any_values(gate: Gate, edits: list[tuple[str, Any]]) -> None:
    def lie(request: Message, reply: Message) -> Message:
        value = {**asdict(gate.experiment.introduction(1)), **dict(edits)}
        return with_text(reply, text_of(value))

    told: list[dict[str, Any]] = []
    greeter = Greeter(
        Puppets(gate.experiment, {FIRST + 1: lie}), 4, recipe=recipe_of(gate.experiment), on_refused=told.append
    )
    greeter.greet(timeout_s=10.0)
    assert {FIRST, FIRST + 2, FIRST + 3} <= greeter.found.keys()
    for row in told:
        assert len(json.dumps(row, allow_nan=False).encode()) < 4000


def test_an_honest_reply_is_taken(gate: Gate) -> None:
    for kind in ("train", "score"):
        before = gate.counts["accepted"]
        gate.hand_over(gate.task(kind), lambda request, reply: reply)
        assert gate.counts["accepted"] == before + 1
