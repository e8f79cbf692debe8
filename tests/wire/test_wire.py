from __future__ import annotations

import json
import pickle
from dataclasses import asdict, replace
from io import BytesIO

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, RecordDict
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.supercore.task_identity import TaskIdentity
from small_models import SMALL, random_state, same_units

from cosp.errors import RefusedUpdate
from cosp.fleet import load_fleet, speed_of
from cosp.fleet.introduction import Budget, Introduction
from cosp.submodel.flat import flatten, length, spans_of
from cosp.submodel.matrices import all_matrices, marked
from cosp.submodel.shape import layout_of
from cosp.submodel.slicing import State, extract
from cosp.task.compression import CompressionSettings
from cosp.task.cut import Cut
from cosp.task.demand import upload_bytes
from cosp.task.local import LocalSettings
from cosp.task.scoring import ScoreSettings
from cosp.task.sent import sent_bytes, to_bytes
from cosp.task.task import Task
from cosp.task.training import TrainSettings
from cosp.wire import door, records
from cosp.wire import messages as wire

LAYOUT = layout_of(SMALL)
NARROW = same_units(2, heads=(1,), attention_rows=(0, 3), hidden=(2, 4), ffn_rows=(5,))
TRAIN = Task("train", 3, 7, 1, 0, SMALL, NARROW)
SCORE = replace(TRAIN, kind="score", scoring=ScoreSettings())
MASKED = replace(TRAIN, local=LocalSettings(view="fedpm"))
SPANS = spans_of(LAYOUT, NARROW.counts)
SPEED = speed_of(load_fleet("equal4").boards[0])
FACTS = {"samples": 10, "loss": 0.5, "local_accuracy_trained": None}


@pytest.fixture(autouse=True)
def _a_flower_run(monkeypatch):
    """Flower takes a message's run and sender from the process that makes it."""
    for name in ("_run_id", "_node_id", "_task_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)


def in_process(message: Message) -> Message:
    return message


def test_what_stays_in_process_is_never_written(monkeypatch):
    def refuse(task):
        raise AssertionError("somebody asked for the text")

    monkeypatch.setattr("cosp.wire.messages.task_to_json", refuse)
    request = instruction()
    assert wire.read_task(request) is TRAIN
    assert wire.read_result(wire.result_reply(request, FACTS, torch.empty(0))) == FACTS


def test_a_result_that_nobody_trained_has_no_weight_change():
    assert wire.read_update(wire.result_reply(instruction(), FACTS, torch.empty(0)), TRAIN) == {}


def test_a_json_record_is_an_ordinary_one_to_whoever_reads_or_copies_it():
    record, plain = records.JsonRecord(FACTS), ConfigRecord({"json": json.dumps(FACTS)})
    assert (list(record), len(record), "json" in record, record["json"]) == (["json"], 1, True, plain["json"])
    assert (list(record.keys()), list(record.values()), list(record.items())) == (
        list(plain.keys()),
        list(plain.values()),
        list(plain.items()),
    )
    assert record == plain
    for copied in (record.copy(), pickle.loads(pickle.dumps(record)), ConfigRecord.inflate(record.deflate())):
        assert type(copied) is ConfigRecord
        assert copied == plain


def over_a_network(message: Message) -> Message:
    sent = message_to_proto(message)
    return message_from_proto(type(sent).FromString(sent.SerializeToString()))


travels = pytest.mark.parametrize("travel", [in_process, over_a_network])


def submodel() -> State:
    return extract(random_state(SMALL), LAYOUT, NARROW)


def instruction(task: Task = TRAIN) -> Message:
    return wire.instruction(task, submodel(), node=5)


def reply_with(content: RecordDict) -> Message:
    return Message(content, reply_to=instruction())


@travels
@pytest.mark.parametrize("task", [TRAIN, SCORE], ids=["train", "score"])
def test_an_instruction_arrives_as_it_was_sent(travel, task):
    request = travel(instruction(task))
    assert wire.read_task(request) == task
    vector = torch.zeros(length(SPANS))
    wire.weights_into(request, task, vector)
    assert torch.equal(vector, flatten(submodel(), SPANS))
    assert request.metadata.dst_node_id == 5


@travels
@pytest.mark.parametrize("frozen_as", ["float16", "bfloat16"])
@pytest.mark.parametrize("down", ["float32", "float16"])
def test_frozen_halves_travel_as_bytes(travel, frozen_as, down):
    training = TrainSettings(frozen=("norms", "inputs"), frozen_as=frozen_as)
    task = replace(TRAIN, training=training, compression=CompressionSettings(down=down))
    cut, vector = Cut(random_state(SMALL), LAYOUT, task), torch.zeros(task.parameters)
    request = travel(wire.instruction(task, cut, node=5))
    array = records.weights_of(request)
    assert (array.dtype, list(array.shape)) == ("uint8", [sent_bytes(task)])
    assert np.array_equal(array.numpy(), to_bytes(task, cut))
    assert wire.read_task(request) == task
    wire.weights_into(request, task, vector)
    assert torch.equal(vector, flatten(cut, task.spans))
    assert not records.weights_of(wire.instruction(task, {}, node=5)).numpy().size


@travels
def test_a_mask_travels_as_bits(travel):
    on = marked(SMALL, NARROW.counts, all_matrices) & (torch.arange(length(SPANS)) % 3 == 0)
    reply = travel(wire.result_reply(instruction(MASKED), FACTS, on.float()))
    found = wire.read_update(reply, MASKED)
    assert torch.equal(flatten(found, SPANS), on.float())
    (array,) = reply.content.array_records["arrays"].values()
    assert array.numpy().nbytes == upload_bytes(MASKED)


def test_a_mask_that_nobody_trained_is_none():
    assert wire.read_update(wire.result_reply(instruction(MASKED), FACTS, torch.empty(0)), MASKED) == {}


@pytest.mark.parametrize(
    "array", [np.zeros(upload_bytes(MASKED) + 1, np.uint8), np.zeros(length(SPANS), np.float32)], ids=["long", "floats"]
)
def test_what_is_no_mask_is_refused_where_one_was_asked_for(array):
    with pytest.raises(RefusedUpdate, match="^malformed: "):
        wire.read_update(reply_with(RecordDict({"arrays": ArrayRecord({"vector": Array(array)})})), MASKED)


@travels
def test_an_update_arrives_as_it_was_sent(travel):
    change = torch.arange(length(SPANS), dtype=torch.float32)
    reply = travel(wire.result_reply(instruction(), FACTS, change))
    assert wire.read_result(reply) == FACTS
    found = wire.read_update(reply, TRAIN)
    assert list(found) == list(SPANS)
    assert {name: tuple(tensor.shape) for name, tensor in found.items()} == {n: s.shape for n, s in SPANS.items()}
    assert torch.equal(flatten(found, SPANS), change)


@travels
def test_scores_travel_as_one_vector(travel):
    reply = travel(wire.result_reply(instruction(SCORE), FACTS, torch.arange(48.0)))
    assert wire.read_vector(reply).tolist() == list(range(48))


INTRODUCTION = Introduction(
    client=3,
    board="nano",
    link="wifi",
    keep=None,
    memory_bytes=10**9,
    samples=5,
    test_samples=1,
    class_counts=(2, 3),
)


@travels
def test_an_introduction_arrives_as_it_was_sent(travel):
    for more in ({}, {"speed": SPEED}, {"words": (0, 5, 1000)}):
        sent = replace(INTRODUCTION, **more)
        assert wire.read_introduction(travel(records.introduction_reply(wire.introduction_request(5), sent))) == sent


def test_nothing_is_copied_in_process():
    state = submodel()
    packed = records.weights_of(wire.instruction(TRAIN, state, node=5))
    assert isinstance(packed, wire.PackedArray)
    assert all(packed.tensors[name] is tensor for name, tensor in state.items())
    change = torch.zeros(length(SPANS))
    found = wire.read_update(wire.result_reply(instruction(), FACTS, change), TRAIN)
    assert found["class_token"].data_ptr() == change.data_ptr()


def test_on_the_wire_an_array_is_flowers_own():
    tensor = torch.tensor([[1.0, 2.0]])
    plain = Array(tensor.numpy())
    ours = wire.TensorArray(tensor)
    assert (ours.dtype, list(ours.shape), ours.stype, ours.data) == (
        plain.dtype, list(plain.shape), plain.stype, plain.data,
    )  # fmt: skip


@travels
def test_a_task_survives_a_network_that_loses_tensor_strides(travel):
    columns = torch.arange(6.0).view(2, 3).t()  # not contiguous
    message = Message(RecordDict({"arrays": ArrayRecord()}), reply_to=instruction())
    message.content.array_records["arrays"]["vector"] = wire.TensorArray(columns)
    assert wire.read_vector(travel(message)).tolist() == columns.reshape(-1).tolist()


@pytest.mark.parametrize(
    "content",
    [
        RecordDict(),
        RecordDict({"result": ConfigRecord({"text": "{}"})}),
        RecordDict({"result": ConfigRecord({"json": "{"})}),
        RecordDict({"result": ConfigRecord({"json": "[1]"})}),
    ],
)
def test_a_reply_without_a_readable_result_is_refused(content):
    with pytest.raises(RefusedUpdate, match="^malformed: ") as refused:
        wire.read_result(reply_with(content))
    assert refused.value.reason == "malformed"


def saved(array: np.ndarray) -> bytes:
    buffer = BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "array",
    [
        Array("float32", (2,), "numpy.ndarray", b""),
        Array("float32", (2,), "numpy.ndarray", b"no array"),
        Array("float32", (2,), "numpy.ndarray", b"PK\x03\x04 no archive"),
        Array("float32", (2,), "numpy.ndarray", saved(np.zeros(2, np.float32))[:-3]),
        Array("float32", (2,), "torch", saved(np.zeros(2, np.float32))),
        Array("float32", (2,), "numpy.ndarray", saved(np.array([{}, {}], dtype=object))),
        Array("float32", (2,), "numpy.ndarray", saved(np.array(["a", "b"]))),
        Array("float32", (2,), "numpy.ndarray", saved(np.zeros(2, np.complex64))),
    ],
    ids=["empty", "garbage", "archive", "cut", "stype", "pickle", "text", "complex"],
)
def test_arrays_that_cannot_be_read_are_refused(array):
    with pytest.raises(RefusedUpdate, match="^malformed: "):
        wire.read_vector(reply_with(RecordDict({"arrays": ArrayRecord({"vector": array})})))


def test_an_update_of_another_length_is_refused():
    short = wire.result_reply(instruction(), FACTS, torch.zeros(length(SPANS) - 1))
    with pytest.raises(RefusedUpdate, match=f"^malformed: the weight change: vector must have {length(SPANS)} entries"):
        wire.read_update(short, TRAIN)


def test_an_instruction_is_one_array_on_the_wire():
    """Flower stores, pulls and confirms each array by itself: ninety of them took a real server a minute a round."""
    content = instruction().content
    assert [list(record) for record in content.array_records.values()] == [["vector"]]
    packed = records.weights_of(instruction())
    assert packed.data == Array(flatten(submodel(), SPANS).numpy()).data


def test_a_reply_without_arrays_is_refused():
    with pytest.raises(RefusedUpdate, match="^malformed: "):
        wire.read_vector(reply_with(RecordDict()))


@pytest.mark.parametrize("value", [{}, {"client": 1}, {"class_counts": [1], "surprise": 2}])
def test_a_reply_that_is_no_introduction_is_refused(value):
    content = RecordDict({"result": ConfigRecord({"json": json.dumps(value)})})
    with pytest.raises(RefusedUpdate, match="not an introduction"):
        wire.read_introduction(reply_with(content))


@pytest.mark.parametrize(
    "words",
    [[], [2, 1], [1, 1], [-1], [1.0], [True], ["1"], "12", 3, [0, 1 << 20], [10**400], list(range(1 << 20)) * 2],
)
def test_words_that_do_not_ascend_or_are_none_are_refused(words):
    told = json.loads(json.dumps({**asdict(INTRODUCTION), "words": [0, 5, 1000]}))
    assert door.introduction_of(told).words == (0, 5, 1000)
    with pytest.raises(RefusedUpdate, match="^malformed: the reply is not an introduction: words") as refused:
        door.introduction_of({**told, "words": words})
    assert len(str(refused.value)) < 500


def test_only_who_is_asked_for_words_is_to_tell_them():
    assert not records.asks_words(over_a_network(wire.introduction_request(1)))
    assert records.asks_words(over_a_network(wire.introduction_request(1, words=True)))


def test_a_lost_task_says_why_and_what_it_took():
    figures = {"download_s": 1.0, "compute_s": 2.0, "upload_s": 0.0, "energy_j": 3.5, "bytes_down": 10, "bytes_up": 0}
    request = wire.introduction_request(1)
    request.metadata.__dict__["_message_id"] = "message-1"
    error = over_a_network(wire.loss_reply(request, "off", "the board went off", figures)).error
    assert wire.read_error(error) == ("off", "the board went off", figures)


BUDGET = Budget(keep=None, memory_bytes=10**8, speed=SPEED)


def test_a_reply_may_say_what_its_client_can_afford_now():
    facts = json.loads(json.dumps({"samples": 3, "budget": asdict(BUDGET)}))
    assert door.budget_in(door.facts_of(facts, "score", priced=False)) == BUDGET
    assert door.budget_in(door.facts_of({"samples": 3}, "score", priced=False)) is None


@pytest.mark.parametrize(
    "change", [{"keep": 2}, {"memory_bytes": -1}, {"memory_bytes": "much"}, {"speed": {}}, {"speed": 3}, {"more": 1}]
)
def test_a_budget_that_cannot_be_is_malformed(change):
    with pytest.raises(RefusedUpdate, match="^malformed: the reply's budget cannot be read"):
        door.budget_of({**asdict(BUDGET), **change})
    for budget in ({**asdict(BUDGET), **change}, 3):
        assert wire.error_budget(Error(door.LOST, json.dumps({"budget": budget}))) is None


def test_who_refuses_a_task_says_what_it_can_hold():
    request = wire.introduction_request(1)
    request.metadata.__dict__["_message_id"] = "message-1"
    error = over_a_network(wire.loss_reply(request, "memory", "too big", {}, budget=asdict(BUDGET))).error
    assert wire.error_budget(error) == BUDGET
    assert wire.error_budget(Error(2, "raised")) is None


@pytest.mark.parametrize(
    ("error", "found"),
    [
        (Error(5, "gone"), ("node-unavailable", "gone", {})),
        (Error(2), ("client-raised", "", {})),
        (Error(door.LOST, "not JSON"), ("error-1000", "not JSON", {})),
        (Error(door.LOST, '{"reason": "off"}'), ("error-1000", '{"reason": "off"}', {})),
    ],
)
def test_other_errors_keep_their_number(error, found):
    assert wire.read_error(error) == found
