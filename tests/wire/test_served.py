"""What a serving board says goes through the door: honest replies are read, anything else is refused by name."""

from __future__ import annotations

import json
import random
import struct
import zlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import Array, Message
from flwr.supercore.task_identity import TaskIdentity
from postal import posted

from cosp.adaptation.asked import Ask, ask_from_json
from cosp.adaptation.download import DownloadSettings
from cosp.adaptation.png import SIGNATURE
from cosp.adaptation.posted import APART, NUMBERS, STACKED, Model, Post, Scale, UpSettings
from cosp.adaptation.tokens import TokenSettings, framed, tokens_message
from cosp.adaptation.upward import Report, to_bytes
from cosp.errors import RefusedUpdate
from cosp.models import TextShape, ViTShape
from cosp.task.task import Task
from cosp.wire import door, records
from cosp.wire.served import SERVE_QUERY, Served, read_served, serve_request

SHAPE = ViTShape(image=8, patch=4, channels=1, classes=3, dim=8, blocks=3, heads=2, hidden=6, exits=(1, 2, 3))
TEXTS = TextShape(vocabulary=9, length=3, classes=3, dim=8, blocks=1, heads=2, hidden=4, exits=(1,), padding=0)
TOKENS = TokenSettings(how="norm", rho=0.25, after=1)
POST = Post(UpSettings(rule="all", tokens=TOKENS), Scale("images", (100.0,), (50.0,), 255.0), SHAPE)
ASK = Ask(Task("serve", 1, 0, 0, 7, SHAPE, SHAPE.full_plan(), split="stream"), "run", 0, 6, 1, POST.settings,
          DownloadSettings())  # fmt: skip
X = np.random.default_rng(0).normal(size=(4, 1, 8, 8)).astype(np.float32)
FACTS = {"samples": 4, "has": 0, "place": 4, "right": 2, "wall_s": 0.1, "wall_energy_j": 0.5}
HOSTILE = (None, True, -1, 1.5, 2**70, float("nan"), float("inf"), "4", [], {}, "x" * 5000)


@pytest.fixture(autouse=True)
def _a_flower_run(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_run_id", "_node_id", "_task_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)


def report(payload: bytes = b"", **changes: Any) -> bytes:
    told = {"version": 0, "samples": 4, "uncertainty": 0.5, "predicted": np.array([1, 3, 0]), "payload": payload}
    return to_bytes(Report(**{**told, **changes}))


def pixels(count: int = 4) -> bytes:
    no_tokens = replace(POST, settings=replace(POST.settings, tokens=TokenSettings()))
    return no_tokens.written(X[:count], Model(SHAPE.full_plan(), torch.empty(0)), np.random.default_rng(0))


def tokens(keep: int = 2, *, after: int = 1, count: int = 4) -> bytes:
    one = tokens_message(np.ones((keep, 8), np.float32), np.ones(keep, np.int64), after)
    return struct.pack("<BH", APART, count) + framed([one] * count)


def read(data: Any, facts: Mapping[str, Any] = FACTS, post: Post = POST) -> Served:
    """Return what the server reads of a reply that came over Flower's own bytes."""
    request = serve_request(ASK, b"", node=5)
    request.metadata.__dict__["_message_id"] = "m"
    array = data if isinstance(data, Array) else Array(np.frombuffer(data, np.uint8))
    reply: Message = posted(records.reply(request, facts, array))
    return read_served(reply, ASK, post)


def test_a_question_brings_what_it_asks_and_the_set_as_it_is() -> None:
    request = posted(serve_request(ASK, b"a set", node=5))
    assert request.metadata.message_type == SERVE_QUERY
    assert ask_from_json(records.task_text(request)) == ASK
    assert records.weights_of(request).numpy().tobytes() == b"a set"


@pytest.mark.parametrize(("payload", "count"), [(pixels(), 4), (tokens(), 4), (b"", 0)], ids=["pixels", "tokens", "no"])
def test_what_an_honest_board_says_is_read(payload: bytes, count: int) -> None:
    data = report(payload)
    served = read(data)
    assert served.report is not None
    assert (served.report.samples, served.report.uncertainty, served.size_bytes) == (4, 0.5, len(data))
    assert sum(len(part.rows) for part in served.uploads) == count
    assert (served.facts.has, served.facts.right) == (0, 2)


def test_a_board_to_which_nothing_came_says_so() -> None:
    assert read(b"", {"samples": 0, "has": None, "place": 4}).report is None


@pytest.mark.parametrize(
    ("data", "reason", "said"),
    [
        (report(uncertainty=float("nan")), "non-finite", "uncertainty"),
        (report(uncertainty=1.1), "malformed", "uncertainty"),
        (report(uncertainty=-0.1), "malformed", "uncertainty"),
        (report(samples=5), "malformed", "5, and 4 beside it"),
        (report(samples=7), "malformed", "must be 1 to 6"),
        (report(samples=0), "malformed", "must be 1 to 6"),
        (report(predicted=np.array([1, 2, 0])), "malformed", "predicted: 3 of 4"),
        (report()[:-1], "malformed", "the report"),
        (report(pixels(4)[:-1]), "malformed", "the samples"),
        (report(tokens(count=5)), "malformed", "5 samples came where 1 to 4 may"),
        (report(tokens(keep=3)), "malformed", "are not those that were asked for"),
        (report(tokens(after=0)), "malformed", "are not those that were asked for"),
        (report(struct.pack("<BH", NUMBERS, 1) + bytes(64)), "malformed", "images do not travel in form 2"),
        (report(struct.pack("<BH", 9, 1)), "malformed", "form 9"),
        (bytes(1000), "too-large", "at most"),
        (Array(np.zeros(6, np.float32)), "malformed", "float32 are no bytes"),
        (b"", "malformed", "there is no report"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_by_name(data: Any, reason: str, said: str) -> None:
    with pytest.raises(RefusedUpdate, match=said) as refused:
        read(data)
    assert refused.value.reason == reason


def test_a_rule_that_sends_none_lets_none_in() -> None:
    post = replace(POST, settings=UpSettings(rule="none"))
    assert read(report(), post=post).uploads == []
    with pytest.raises(RefusedUpdate, match="are not of at most 0 samples"):
        read(report(pixels()), post=post)


def test_a_small_picture_that_would_unpack_to_a_large_one_is_refused() -> None:
    head = struct.pack(">IIBBBBB", 8, 32, 8, 0, 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(bytes(100_000), 9))]
    png = SIGNATURE + b"".join(struct.pack(">I", len(data)) + kind + data + bytes(4) for kind, data in chunks)
    with pytest.raises(RefusedUpdate, match="holds 288 bytes, got 289"):
        read(report(struct.pack("<BH", STACKED, 4) + png))


@pytest.mark.parametrize("words", [[[9, 0, 0]], [[-1, 0, 0]]])
def test_words_that_a_vocabulary_has_not_are_refused(words: list[list[int]]) -> None:
    post = Post(UpSettings(rule="all"), Scale("texts"), TEXTS)
    good = struct.pack("<BH", NUMBERS, 1) + np.array([[8, 0, 1]], np.int32).tobytes()
    assert post.read(good)[0].batch.x.tolist() == [[8, 0, 1]]
    with pytest.raises(ValueError, match="words must lie in"):
        post.read(good[:3] + np.array(words, np.int32).tobytes())


def test_series_that_are_not_finite_are_refused() -> None:
    post = Post(UpSettings(rule="all"), Scale("series", (0.0,), (1.0,)), SHAPE)
    body = np.zeros((1, 1, 8, 8), np.float32)
    body[0, 0, 0, 0] = np.inf
    with pytest.raises(ValueError, match="must be finite"):
        post.read(struct.pack("<BH", NUMBERS, 1) + body.tobytes())


def test_no_bytes_and_no_facts_raise_anything_else() -> None:
    chance, refused = random.Random(0), list[str]()
    honest = [report(pixels()), report(tokens()), report()]
    for _ in range(300):
        data = bytearray(chance.choice(honest))
        for _ in range(chance.randint(1, 4)):
            place = chance.randrange(len(data))
            data[place : place + chance.randint(0, 2)] = chance.randbytes(chance.randint(0, 3))
        facts = dict(FACTS)
        if chance.random() < 0.3:
            facts[chance.choice([*FACTS, "other"])] = chance.choice(HOSTILE)  # type: ignore[assignment]
        try:
            served = read(bytes(data), json.loads(json.dumps(facts)))
        except RefusedUpdate as error:
            refused.append(error.reason)
        else:
            assert all(torch.isfinite(part.batch.x).all() for part in served.uploads)
    assert len(refused) > 100
    assert set(refused) <= set(door.REASONS)
