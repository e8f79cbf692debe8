"""The door: every value that a board sends is read here: bounded, exact, finite, and refused by name if it is not.

A text has a size before it is decoded and a depth while it is; a number has a type (``true`` is none) and a range; a
text that people will read is cut and cleaned. A key that this cosp does not know is refused; one that an older board
does not send has a default. What a board claims within these ranges is another matter: see ``cosp.server.admission``.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Mapping
from io import BytesIO
from itertools import pairwise
from typing import Annotated, Any, Literal, TypeVar, get_args

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import from_json

from cosp.errors import RefusedUpdate
from cosp.fleet.introduction import Budget, Introduction
from cosp.fleet.links import Link
from cosp.fleet.speed import Speed
from cosp.recipe import KINDS, Recipe

MOST_TEXT_BYTES = 1 << 20
"""Of a JSON text; an honest one has some hundred bytes, an introduction some more for each class."""
MOST_NAME, MOST_DETAIL = 100, 400
"""Characters of a text that is kept: a board's name; the end of an error's reason, where its cause stands."""
MOST_CLASS = 1000
"""Characters of a class's name, which is compared whole."""
HEADER_BYTES = 1 << 12
"""What the bytes of an array may have beside its numbers."""

Loss = Literal["dropout", "off", "battery", "memory", "worker-died"]
"""Why a simulated board loses a task."""
ERRORS = {2: "client-raised", 3: "message-lost", 5: "node-unavailable", 8: "client-died"}
"""Flower's error codes, named as rows name them; any other that Flower has is ``error-N``."""
LOST = 1000  # an error code beyond Flower's own: a task that a simulated board lost
OTHER_ERRORS = tuple(f"error-{code}" for code in (0, 1, 4, 6, 7, LOST))
LIES = ("malformed", "too-large", "samples", "twice")
"""What no honest board of the same cosp says, however its training went."""
REASONS = (
    *LIES, "non-finite", "norm", "stale", *get_args(Loss), *ERRORS.values(), *OTHER_ERRORS, "error-unknown", "not-sent",
    "timeout", "server-restarted", "introduction", "few",
)  # fmt: skip
"""Under which a refused reply, a failed task or a board that is kept out is counted: there is no other."""


def cleaned(text: str, most: int) -> str:
    """Return the end of ``text``, at most so many characters, with a mark for each that no screen or file should get:
    control characters, which steer a terminal, and halves of a surrogate pair, which no file can hold.
    """
    return "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in text[-most:])


def _named(text: str) -> str:
    return cleaned(text[:MOST_NAME], MOST_NAME)


Name = Annotated[str, AfterValidator(_named)]
Whole = Annotated[int, Field(ge=0, le=1 << 60)]
Span = Annotated[float, Field(ge=0, le=1e12)]
"""Seconds, watts or joules."""
Rate = Annotated[float, Field(ge=1e-30, le=1e30)]
Share = Annotated[float, Field(ge=0, le=1)]
Keep = Annotated[float, Field(gt=0, le=1)]


def _ascending(words: list[int]) -> list[int]:
    if not all(a < b for a, b in pairwise(words)):
        raise ValueError("must ascend, each word once")
    return words


MOST_WORDS = 1 << 20
"""Of a vocabulary; the largest of today's models have a quarter of that."""
Word = Annotated[int, Field(ge=0, lt=MOST_WORDS)]
Words = Annotated[list[Word], Field(min_length=1, max_length=MOST_WORDS), AfterValidator(_ascending)]


class _Told(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)


class _Link(_Told):
    name: Name
    downlink_bytes_per_s: Rate
    uplink_bytes_per_s: Rate
    latency_s: Span


class _Speed(_Told):
    flops_per_s: Rate
    half_batch: Span
    memory_bytes_per_s: Rate
    launch_s: Span
    overlap: bool
    slowdown: Rate
    link: _Link
    half_flops_per_s: Rate | None = None


class _Budget(_Told):
    keep: Keep | None
    memory_bytes: Whole
    speed: _Speed | None


class _Recipe(_Told):
    classes: Annotated[list[Annotated[str, Field(max_length=MOST_CLASS)]], Field(min_length=1)]
    sample_shape: Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=min(KINDS), max_length=max(KINDS))]
    mean: list[float] | None = None
    std: list[float] | None = None
    white: float | None = None
    tokenizer: Name | None = None
    vocabulary: Whole | None = None
    local_test: Share
    seed: int
    data: Name


class _Introduction(_Budget):
    client: Whole
    board: Name
    link: Name
    memory_bytes: Annotated[int, Field(ge=1, le=1 << 60)]
    samples: Annotated[int, Field(ge=1, le=1 << 60)]
    test_samples: Whole
    class_counts: Annotated[list[Whole], Field(min_length=1)]
    speed: _Speed | None = None
    idle_w: Annotated[float, Field(ge=0, le=1e6)] = 0.0
    gpu: bool = False
    recipe: _Recipe | None = None
    words: Words | None = None
    keeps_frozen: bool = False


class _Cost(_Told):
    download_s: Span
    compute_s: Span
    upload_s: Span
    energy_j: Span


class Facts(_Told):
    """What a reply says beside its numbers. ``cost``: of the grid's cost model, and never from a board."""

    samples: Whole
    wall_s: Span | None = None
    wall_step_s: Span | None = None
    wall_peak_rss_bytes: Whole | None = None
    wall_peak_cuda_bytes: Whole | None = None
    wall_energy_j: Span | None = None
    wall_power_scope: Name | None = None
    wall_cpu_s: Span | None = None
    wall_cpu_share: Share | None = None
    wall_temperature_c: Annotated[float, Field(ge=-100, le=300)] | None = None
    wall_throttled_share: Share | None = None
    wall_frequency_hz: Annotated[float, Field(ge=0, le=1e12)] | None = None
    wall_received_bytes: Whole | None = None
    wall_sent_bytes: Whole | None = None
    recipe: Name | None = None
    budget: _Budget | None = None
    cost: _Cost | None = None


class TrainFacts(Facts):
    """Those of a training task. A loss that is NaN or infinite is an update that diverged, and is refused as such."""

    loss: Annotated[float, Field(ge=-1e9, le=1e9)] | None
    local_accuracy_received: Share | None
    local_accuracy_trained: Share | None


class ServeFacts(Facts):
    """Those of a board that serves. ``has``: the version that it has now, None: none; ``place``: how many samples of
    its stream are behind it; ``right``: of how many its answer was right, where it has labels.
    """

    has: Annotated[int, Field(ge=0, lt=1 << 32)] | None
    place: Whole
    right: Whole | None = None


FACTS: Mapping[str, type[Facts]] = {"train": TrainFacts, "serve": ServeFacts}
"""By the kind of a task; those of any other are ``Facts``."""


class _Figures(_Told):
    download_s: Span
    compute_s: Span
    upload_s: Span
    energy_j: Span
    bytes_down: Whole
    bytes_up: Whole


class _Loss(_Told):
    reason: Loss
    detail: str
    figures: _Figures
    budget: Any = None


FIGURES = tuple(_Figures.model_fields)
AnyTold = TypeVar("AnyTold", bound=_Told)


def json_of(text: object) -> dict[str, Any]:
    """Return the object that a JSON text holds; RefusedUpdate if it is too long, too deep or none."""
    if not isinstance(text, str):
        raise RefusedUpdate("malformed", f"the result is not a text but {type(text).__name__}")
    if len(text) > MOST_TEXT_BYTES:
        raise RefusedUpdate("too-large", f"the result has {len(text)} characters, at most {MOST_TEXT_BYTES} are read")
    try:
        value = from_json(text.encode())  # has a depth of its own, where the library's json has the stack's
    except ValueError as error:
        raise RefusedUpdate("malformed", f"the reply has no readable result: {error}") from None
    if not isinstance(value, dict):
        raise RefusedUpdate("malformed", f"the result is not an object but {type(value).__name__}")
    return value


def facts_of(value: Mapping[str, Any], kind: str, *, priced: bool) -> Facts:
    """Return the facts of the reply to a task of ``kind``; RefusedUpdate if anything in them is not as it must be.

    ``priced``: they come from this process, so that a grid's own costs may be among them.
    """
    if not priced and value.get("cost") is not None:
        raise RefusedUpdate("malformed", "the facts: cost: is the grid's to say, not a board's")
    return _checked(FACTS.get(kind, Facts), value, "the facts")


def budget_of(value: object) -> Budget:
    """Return what a client says that it can afford; RefusedUpdate if it is no budget."""
    return _budget(_checked(_Budget, value, "the reply's budget cannot be read"))


def budget_in(facts: Facts) -> Budget | None:
    """Return the budget that facts hold, if they do."""
    return None if facts.budget is None else _budget(facts.budget)


def introduction_of(value: Mapping[str, Any]) -> Introduction:
    """Return what a node says of itself; RefusedUpdate if it is not an introduction."""
    told = _checked(_Introduction, value, "the reply is not an introduction")
    plain = {name: getattr(told, name) for name in type(told).model_fields}
    words = None if told.words is None else tuple(told.words)
    return Introduction(
        **{
            **plain,
            "speed": _speed(told.speed),
            "class_counts": tuple(told.class_counts),
            "words": words,
            "recipe": _recipe(told.recipe),
        }
    )


def loss_of(text: str) -> tuple[str, str, dict[str, float]]:
    """Return why a simulated board lost a task, in short and at length, and what it took until then."""
    told = _checked(_Loss, json_of(text), "the loss")
    return told.reason, cleaned(told.detail, MOST_DETAIL), dict(told.figures)


def error_named(code: object) -> str:
    """Return the short name of an error code, one of ``REASONS`` whatever the code is."""
    if not isinstance(code, int):
        return "error-unknown"
    name = ERRORS.get(code, f"error-{code}")
    return name if name in REASONS else "error-unknown"


def numbers_of(data: object, *, most: int) -> np.ndarray:
    """Return the array that ``data`` is as numpy saves one, in one dimension, not writable; at most ``most`` bytes of
    numbers. RefusedUpdate for anything else: nothing is unpacked, unpickled or made room for before it is known to fit.
    """
    if not isinstance(data, bytes):
        raise RefusedUpdate("malformed", f"the reply's arrays cannot be read: no bytes but {type(data).__name__}")
    if len(data) > most + HEADER_BYTES:
        raise RefusedUpdate("too-large", f"the reply's array has {len(data)} bytes, at most {most} were asked for")
    buffer = BytesIO(data[:HEADER_BYTES])
    try:
        if np.lib.format.read_magic(buffer) != (1, 0):
            raise ValueError("not version 1.0 of numpy's format")
        shape, by_columns, dtype = np.lib.format.read_array_header_1_0(buffer, max_header_size=HEADER_BYTES)
        count = math.prod(shape)
        if dtype.kind not in "fiu" or dtype.itemsize > 8:
            raise ValueError(f"an array of {dtype}")
        if count < 0 or count * dtype.itemsize != len(data) - buffer.tell():
            raise ValueError(f"{len(data)} bytes are no {shape} {dtype}")
        numbers = np.frombuffer(data, dtype, count, buffer.tell())
        return numbers.reshape(shape, order="F").reshape(-1) if by_columns else numbers
    except Exception as error:  # bytes from outside: numpy raises nearly anything over a header
        raise RefusedUpdate("malformed", f"the reply's arrays cannot be read: {reprlib.repr(error)}") from None


def bytes_of(data: object, *, most: int) -> bytes:
    """Return the bytes that ``data`` holds as numpy saves an array of them, at most so many; RefusedUpdate for anything
    else.
    """
    numbers = numbers_of(data, most=most)
    if numbers.dtype != np.uint8:
        raise RefusedUpdate("malformed", f"the reply's arrays cannot be read: {numbers.dtype} are no bytes")
    if len(numbers) > most:
        raise RefusedUpdate("too-large", f"the reply has {len(numbers)} bytes, at most {most} were asked for")
    return numbers.tobytes()


def _checked(form: type[AnyTold], value: object, what: str) -> AnyTold:
    try:
        return form.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        where = ".".join(map(str, first["loc"]))
        reason = "non-finite" if first["type"] == "finite_number" else "malformed"
        detail = f"{what}: {where}: {first['msg']}, got {reprlib.repr(first['input'])}"
        raise RefusedUpdate(reason, cleaned(detail[:MOST_DETAIL], MOST_DETAIL)) from None


def _budget(told: _Budget) -> Budget:
    return Budget(keep=told.keep, memory_bytes=told.memory_bytes, speed=_speed(told.speed))


def _recipe(told: _Recipe | None) -> Recipe | None:
    if told is None:
        return None
    plain: dict[str, Any] = {name: getattr(told, name) for name in type(told).model_fields}
    made: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in plain.items()}
    return Recipe(**made)


def _speed(told: _Speed | None) -> Speed | None:
    if told is None:
        return None
    plain = {name: getattr(told, name) for name in type(told).model_fields}
    return Speed(**{**plain, "link": Link(**dict(told.link))})
