"""One of four boards lies, in every way that we know of: the run ends well, names it, and its rows can be read."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import puppets
import pytest
from flwr.app import Array, ArrayRecord, Error, Message
from puppets import FIRST, Lie, Puppets, experiment_with, introduced, kind, rows_of, run_with, said, saying

from cosp.errors import CospError
from cosp.experiment import Experiment
from cosp.recipe import Recipe
from cosp.report import read_run
from cosp.run.recipe import recipe_of
from cosp.server.greeting import Greeter
from cosp.wire import door, records

pytestmark = pytest.mark.integration
LIAR = 2
NODE = FIRST + LIAR
DEEP = "[" * 100_000


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cosp.server.clock.POLL_S", 0.001)


@pytest.fixture(scope="module")
def experiment() -> Experiment:
    return experiment_with()


def result(change: Callable[[dict[str, Any]], Any]) -> Lie:
    """Return the lie that changes what is told of a training task; what ``change`` returns may be a text."""

    def lie(request: Message, reply: Message) -> Message:
        if kind(request) != "train":
            return reply
        facts = said(reply)
        told = change(facts)
        return saying(reply, told if isinstance(told, str) else json.dumps(facts))

    return lie


def with_(**changes: Any) -> Lie:
    return result(lambda facts: facts.update(changes))


def budget(**changes: Any) -> Lie:
    honest = {"keep": 0.5, "memory_bytes": 10**9, "speed": None}
    return with_(budget={**honest, **changes})


def lost(**changes: Any) -> Lie:
    figures = dict.fromkeys(door.FIGURES, 1.0)
    told = {"reason": "off", "detail": "gone", "figures": figures, **changes}
    return training_error(json.dumps(told), door.LOST)


def training_error(reason: str, code: int = 2) -> Lie:
    return lambda request, reply: Message(Error(code, reason), reply_to=request) if kind(request) == "train" else reply


def twice(request: Message, reply: Message) -> list[Message]:
    return [reply, reply] if kind(request) == "train" else [reply]


REPLIES: dict[str, Lie] = {
    "deep JSON": result(lambda facts: DEEP),
    "deep JSON in a fact": result(lambda facts: '{"samples": ' + DEEP + "}"),
    "deep JSON in an error": training_error(DEEP, door.LOST),
    "infinite samples": with_(samples=float("inf")),
    "a loss of 400 digits": with_(loss=10**400),
    "a loss of 9000 digits": result(lambda facts: '{"loss": ' + "9" * 9000 + "}"),
    "1e308 s a step": with_(wall_step_s=1e308),
    "1e-308 s a step": with_(wall_step_s=1e-308),
    "bytes that are no number": lost(figures={**dict.fromkeys(door.FIGURES, 1.0), "bytes_up": float("nan")}),
    "an error of -1e300 J": lost(figures={**dict.fromkeys(door.FIGURES, 1.0), "energy_j": -1e300}),
    "an error of 1e300 J": lost(figures={**dict.fromkeys(door.FIGURES, 1.0), "energy_j": 1e300}),
    "an error's own reason": lost(reason="x" * 1_000_000),
    "a budget of 1e300 bytes": budget(memory_bytes=1e300),
    "a budget of many bytes": budget(keep=None, memory_bytes=10**300),
    "keep true": budget(keep=True),
    "keep everything": budget(keep=1.0),
    "keep nothing": budget(keep=1e-300),
    "a speed of strings": budget(speed={"flops_per_s": "x"}),
    "two replies": twice,
    "a lone surrogate": lost(detail="\ud800 gone"),
    "a lone surrogate for a reason": lost(reason="\ud800"),
    "a reason of 1 MB": training_error("y" * 1_000_000),
    "a colour in the terminal": training_error("\x1b[31mred\x1b[0m"),
    "NaN loss": with_(loss=float("nan")),
    "infinite accuracy": with_(local_accuracy_trained=float("inf")),
    "an accuracy of 7": with_(local_accuracy_trained=7.0),
    "NaN joules": with_(wall_energy_j=float("nan")),
    "-1e300 J": with_(wall_energy_j=-1e300),
    "1e300 J": with_(wall_energy_j=1e300),
    "a cost of its own": with_(cost={"download_s": 0, "compute_s": 0, "upload_s": 0, "energy_j": -1e300}),
    "an unknown key": with_(surprise=1),
    "samples as true": with_(samples=True),
    "ten megabytes": result(lambda facts: json.dumps({**facts, "wall_power_scope": "z" * 10_000_000})),
    "text that is no UTF-8": result(lambda facts: '{"samples": "\\ud800"}'),
    "an unknown error": training_error("?", 123_456_789),
}


def read_by_everybody(folder: Path) -> None:
    """All readers of a run directory read it; nothing in it is NaN or infinite."""
    rows_of(folder)
    metrics = (folder / "metrics.json").read_text(encoding="utf-8")
    assert "NaN" not in metrics
    assert "Infinity" not in metrics
    assert read_run(folder).metrics is not None


@pytest.mark.parametrize("name", REPLIES)
def test_a_board_that_answers_wrongly_stops_nobody(experiment: Experiment, tmp_path: Path, name: str):
    grid = Puppets(experiment, {NODE: REPLIES[name]})
    metrics = run_with(experiment, grid, tmp_path / "run")
    assert metrics["rounds"] == 4
    read_by_everybody(tmp_path / "run")
    assert all(len(reason) < 40 for reason in metrics["refused"])
    assert 0 <= metrics["energy_j"] < 1e6
    trained = {row["client"] for row in rows_of(tmp_path / "run", "arrival") if row["accepted"]}
    assert trained >= {0, 1, 3}


INTRODUCTIONS: dict[str, Callable[[Experiment], str]] = {
    "client x": lambda e: introduced(e, LIAR, client="x"),
    "client [1]": lambda e: introduced(e, LIAR, client=[1]),
    "client 99": lambda e: introduced(e, LIAR, client=99),
    "client -1": lambda e: introduced(e, LIAR, client=-1),
    "client true": lambda e: introduced(e, LIAR, client=True),
    "another's number": lambda e: introduced(e, 0),
    "idle_w x": lambda e: introduced(e, LIAR, idle_w="x"),
    "idle_w NaN": lambda e: introduced(e, LIAR, idle_w=float("nan")),
    "board 5": lambda e: introduced(e, LIAR, board=5),
    "deep": lambda e: DEEP,
    "no JSON": lambda e: "{",
    "class counts of another task": lambda e: introduced(e, LIAR, class_counts=[1, 2]),
    "an unknown key": lambda e: introduced(e, LIAR, surprise=1),
    "a recipe that is none": lambda e: introduced(e, LIAR, recipe={"classes": [1]}),
    "a recipe without classes": lambda e: introduced(e, LIAR, recipe=asdict(replace(recipe_of(e), classes=()))),
    "a mean of text": lambda e: introduced(e, LIAR, recipe={**asdict(recipe_of(e)), "mean": ["x"]}),
}

STORES: dict[str, tuple[Callable[[Recipe], Recipe], str]] = {
    "classes in another order": (
        lambda own: replace(own, classes=("1", "0", *own.classes[2:])),
        "classes: the run's in another order: 0 is '0', at the board '1'",
    ),
    "another class": (
        lambda own: replace(own, classes=("cat", *own.classes[1:])),
        "classes: 'cat' is none of the run's",
    ),
    "fewer classes": (
        lambda own: replace(own, classes=own.classes[1:]),
        "classes: the task has 10 classes, the board's data 9",
    ),
    "larger images": (
        lambda own: replace(own, sample_shape=(1, 16, 16)),
        "samples: the run's are images (1, 8, 8), the board's images (1, 16, 16)",
    ),
    "series": (
        lambda own: replace(own, sample_shape=(64, 1)),
        "samples: the run's are images (1, 8, 8), the board's series (64, 1)",
    ),
    "not normalised": (
        lambda own: replace(own, mean=(0.0,), std=(1.0,)),
        "normalisation: channel 0 has mean 4.865 and",
    ),
}


@pytest.mark.parametrize("name", STORES)
def test_a_store_made_otherwise_keeps_that_board_out_says_why_and_tells_it(
    experiment: Experiment, tmp_path: Path, name: str
):
    change, why = STORES[name]
    told: list[str] = []

    def made(request: Message, reply: Message) -> Message:
        if kind(request) != "query":
            return reply
        told.append(records.kept_out(request))
        return saying(reply, introduced(experiment, LIAR, recipe=asdict(change(recipe_of(experiment)))))

    metrics = run_with(experiment, Puppets(experiment, {NODE: made}), tmp_path / "run")
    assert metrics["rounds"] == 4
    (row,) = rows_of(tmp_path / "run", "refused")
    assert row["node"] == NODE
    assert row["detail"].startswith(why)
    assert row["detail"].endswith("by the run's recipe: cosp server recipe CONFIG")
    assert told == ["", *[row["detail"]] * (len(told) - 1)]
    assert len(told) > 1
    assert {row["client"] for row in rows_of(tmp_path / "run", "arrival")} == {0, 1, 3}


def test_a_board_is_sent_what_the_fleet_file_plans_and_less_by_its_own_limit(experiment: Experiment, tmp_path: Path):
    """All four are planned with half of the model; one wants all of it, one four tenths, one says nothing."""
    own = {FIRST: 1.0, FIRST + 1: 0.4, FIRST + 2: None}

    def limited(node: int) -> Lie:
        def say(request: Message, reply: Message) -> Message:
            if kind(request) != "query":
                return reply
            return saying(reply, introduced(experiment, node - FIRST, keep=own[node], memory_bytes=10**12))

        return say

    run_with(experiment, Puppets(experiment, {node: limited(node) for node in own}), tmp_path / "run")
    sent = {row["client"]: row["parameters"] for row in rows_of(tmp_path / "run", "arrival") if row["task"] == "train"}
    assert sent[0] == sent[2] == sent[3] > sent[1]
    clients = {row["client"]: row for row in rows_of(tmp_path / "run", "client")}
    assert [clients[client]["keep"] for client in range(4)] == [0.5, 0.4, 0.5, 0.5]
    assert clients[1]["planned"] == {"keep": 0.5}
    assert clients[0]["claimed"] == {"keep": 1.0}
    assert not any("planned" in clients[client] for client in (0, 2, 3))


def test_a_board_whose_own_limit_holds_no_submodel_sits_out_and_the_others_train(
    experiment: Experiment, tmp_path: Path
):
    def limited(request: Message, reply: Message) -> Message:
        return saying(reply, introduced(experiment, LIAR, keep=0.01)) if kind(request) == "query" else reply

    metrics = run_with(experiment, Puppets(experiment, {NODE: limited}), tmp_path / "run")
    assert metrics["rounds"] == 4
    assert {row["client"] for row in rows_of(tmp_path / "run", "arrival")} == {0, 1, 3}
    assert metrics["sitting_out"] == [LIAR]


def test_a_board_that_comes_back_with_another_store_is_sent_nothing_more(experiment: Experiment, tmp_path: Path):
    own = recipe_of(experiment)
    other = replace(own, classes=("1", "0", *own.classes[2:]))
    answered = 0

    def swapped(request: Message, reply: Message) -> Message:
        nonlocal answered
        if kind(request) == "query":
            return saying(reply, introduced(experiment, LIAR, recipe=asdict(own)))
        answered += kind(request) == "train"
        recipe = own if answered <= 1 else other
        return saying(reply, json.dumps({**said(reply), "recipe": recipe.mark}))

    metrics = run_with(experiment, Puppets(experiment, {NODE: swapped}), tmp_path / "run")
    assert metrics["rounds"] == 4
    rows = [row for row in rows_of(tmp_path / "run", "arrival") if row["client"] == LIAR and row["task"] == "train"]
    assert [row["accepted"] for row in rows] == [True, False]
    assert rows[-1]["reason"] == "introduction"
    assert "its trainer has another store than it introduced itself with" in rows[-1]["detail"]


def test_a_store_made_alike_takes_part(experiment: Experiment, tmp_path: Path):
    """A deviation that is one part in a thousand off comes of another machine's sums; an older store says less."""
    own = recipe_of(experiment)
    assert own.std is not None
    stores = {FIRST: own, FIRST + 1: replace(own, std=(own.std[0] * 1.001,)), NODE: replace(own, mean=None, std=None)}

    def told_by(node: int) -> Lie:
        def say(request: Message, reply: Message) -> Message:
            if kind(request) != "query":
                return reply
            return saying(reply, introduced(experiment, node - FIRST, recipe=asdict(stores[node])))

        return say

    run_with(experiment, Puppets(experiment, {node: told_by(node) for node in stores}), tmp_path / "run")
    assert rows_of(tmp_path / "run", "refused") == []
    assert {row["client"] for row in rows_of(tmp_path / "run", "client")} == {0, 1, 2, 3}


@pytest.mark.parametrize("name", INTRODUCTIONS)
def test_a_wrong_introduction_keeps_that_board_out_and_the_run_goes_on(
    experiment: Experiment, tmp_path: Path, name: str
):
    def lie(request: Message, reply: Message) -> Message:
        return saying(reply, INTRODUCTIONS[name](experiment)) if kind(request) == "query" else reply

    metrics = run_with(experiment, Puppets(experiment, {NODE: lie}), tmp_path / "run")
    assert metrics["rounds"] == 4
    read_by_everybody(tmp_path / "run")
    rows = rows_of(tmp_path / "run")
    assert {row["client"] for row in rows if row["kind"] == "arrival"} == {0, 1, 3}
    named = [row for row in rows if row["kind"] == "refused"]
    assert named
    assert {row["node"] for row in named} == {NODE}
    assert metrics["refused"] == {"introduction": len(named)}


def test_a_board_may_join_when_its_introduction_has_become_right(experiment: Experiment, tmp_path: Path):
    wrong = iter(range(2))

    def lie(request: Message, reply: Message) -> Message:
        if kind(request) == "query" and next(wrong, None) is not None:
            return saying(reply, introduced(experiment, LIAR, client="x"))
        return reply

    metrics = run_with(experiment, Puppets(experiment, {NODE: lie}), tmp_path / "run")
    assert metrics["rounds"] == 4
    assert [row["client"] for row in rows_of(tmp_path / "run", "client")] == [0, 1, 3, LIAR]
    assert LIAR in {row["client"] for row in rows_of(tmp_path / "run", "arrival") if row["accepted"]}
    read_by_everybody(tmp_path / "run")


def test_too_few_honest_boards_are_no_run_and_all_wrong_ones_are_named(experiment: Experiment, tmp_path: Path):
    def lie(request: Message, reply: Message) -> Message:
        return saying(reply, introduced(experiment, LIAR, client="x")) if kind(request) == "query" else reply

    with pytest.raises(CospError, match=rf"1 of 4 .* node {FIRST + 1}: .*client"):
        run_with(experiment, Puppets(experiment, {FIRST + i: lie for i in (1, 2, 3)}), tmp_path / "run")


def test_min_clients_says_how_many_are_enough(tmp_path: Path):
    def lie(request: Message, reply: Message) -> Message:
        return saying(reply, "{") if kind(request) == "query" else reply

    few, many = experiment_with(min_clients=1), experiment_with(min_clients=4)
    lies = {FIRST + i: lie for i in (1, 2, 3)}
    assert run_with(few, Puppets(few, lies), tmp_path / "few")["rounds"] == 4
    with pytest.raises(CospError, match="3 of 4"):
        run_with(many, Puppets(many, {NODE: lie}), tmp_path / "many")


def test_a_stranger_of_no_board_s_number_is_kept_out(experiment: Experiment, tmp_path: Path):
    """A fifth node, admitted by mistake, under the number of a board that is there."""
    grid = Puppets(experiment, {}, more=[FIRST + 4])
    assert run_with(experiment, grid, tmp_path / "run")["rounds"] == 4
    assert [row["client"] for row in rows_of(tmp_path / "run", "client")] == [0, 1, 2, 3]


def test_a_board_that_lies_three_times_in_a_row_is_banned_for_the_run(tmp_path: Path):
    experiment = experiment_with(versions=8)
    grid = Puppets(experiment, {NODE: with_(samples=-1)})
    metrics = run_with(experiment, grid, tmp_path / "run")
    refused = [row for row in rows_of(tmp_path / "run", "arrival") if not row["accepted"]]
    assert {(row["client"], row["reason"]) for row in refused} == {(LIAR, "malformed")}
    assert len(refused) == 3
    (ban,) = rows_of(tmp_path / "run", "ban")
    assert (ban["client"], ban["node"]) == (LIAR, NODE)
    assert metrics["banned"] == [LIAR]
    assert metrics["rounds"] == 8


def test_a_board_that_answers_everything_twice_is_banned(tmp_path: Path):
    experiment = experiment_with(versions=8)
    metrics = run_with(experiment, Puppets(experiment, {NODE: twice}), tmp_path / "run")
    assert metrics["banned"] == [LIAR]
    assert metrics["refused"] == {"twice": 3}


def test_a_model_that_overflows_is_no_version_and_the_boards_are_asked_again(experiment: Experiment, tmp_path: Path):
    turns = iter(range(4))

    def huge(request: Message, reply: Message) -> Message:
        if kind(request) == "train" and next(turns, None) is not None:
            numbers = np.full_like(reply.content["arrays"]["vector"].numpy(), 3e38)
            reply.content["arrays"] = ArrayRecord({"vector": Array(numbers)})
        return reply

    experiment = experiment_with({**FEDAVG, "method": {"name": "fedavg", "merge": {"clip": False}}}, quorum=4)
    metrics = run_with(experiment, Puppets(experiment, {FIRST + i: huge for i in range(4)}), tmp_path / "run")
    assert metrics["rounds"] == 4
    assert metrics["refused"] == {"non-finite": 1}
    read_by_everybody(tmp_path / "run")


def scaled(factor: float) -> Lie:
    def lie(request: Message, reply: Message) -> Message:
        if kind(request) == "train":
            numbers = reply.content["arrays"]["vector"].numpy() * np.float32(factor)
            reply.content["arrays"] = ArrayRecord({"vector": Array(numbers)})
        return reply

    return lie


FEDAVG = {**puppets.CONFIG, "method": {"name": "fedavg"}}


@pytest.mark.parametrize("factor", [1e3, -10.0, 1e30])
def test_an_update_out_of_bounds_is_made_an_ordinary_one(tmp_path: Path, factor: float):
    experiment = experiment_with(FEDAVG)
    run_with(experiment, Puppets(experiment, {NODE: scaled(factor)}), tmp_path / "run")
    trained = [row for row in rows_of(tmp_path / "run", "arrival") if row["base_version"] > 1]
    assert {row["client"] for row in trained if "clipped" in row} == {LIAR}
    for row in trained:
        if row["client"] == LIAR:
            assert row["clipped"] == pytest.approx(1 / abs(factor), rel=0.1)
    read_by_everybody(tmp_path / "run")


def test_updates_out_of_bounds_are_refused_where_that_is_asked_for(tmp_path: Path):
    method = {"name": "fedavg", "merge": {"clip": {"factor": 4.0, "how": "refuse"}}}
    experiment = experiment_with({**FEDAVG, "method": method})
    metrics = run_with(experiment, Puppets(experiment, {NODE: scaled(1e3)}), tmp_path / "run")
    assert metrics["refused"] == {"norm": 4}
    assert metrics["banned"] == []


def test_no_bound_where_none_is_wanted(tmp_path: Path):
    experiment = experiment_with({**FEDAVG, "method": {"name": "fedavg", "merge": {"clip": False}}})
    run_with(experiment, Puppets(experiment, {NODE: scaled(1e3)}), tmp_path / "run")
    assert not [row for row in rows_of(tmp_path / "run", "arrival") if "clipped" in row]


def test_a_ban_outlives_a_restart(tmp_path: Path):
    experiment = experiment_with(versions=5)
    grid = Puppets(experiment, {NODE: with_(samples=-1)})
    run_with(experiment, grid, tmp_path / "run")
    longer = experiment_with(versions=8)
    again = Puppets(longer, {NODE: with_(samples=-1)})
    metrics = run_with(longer, again, tmp_path / "run", resume=True)
    assert NODE not in {node for node, _ in again.asked}
    assert (metrics["rounds"], metrics["banned"]) == (8, [LIAR])


def test_a_board_that_tells_the_truth_in_between_is_not_banned(tmp_path: Path):
    experiment, turns = experiment_with(versions=9), iter(range(1000))

    def lie(request: Message, reply: Message) -> Message:
        if kind(request) == "train" and next(turns) % 3 != 2:
            return saying(reply, "{}")
        return reply

    metrics = run_with(experiment, Puppets(experiment, {NODE: lie}), tmp_path / "run")
    assert metrics["banned"] == []
    assert rows_of(tmp_path / "run", "ban") == []


def test_when_too_many_are_banned_the_run_ends_in_one_line(tmp_path: Path):
    experiment = experiment_with(versions=8)
    lies = {FIRST + i: with_(samples=-1) for i in (1, 2, 3)}
    with pytest.raises(CospError, match="3 of 4 boards are banned"):
        run_with(experiment, Puppets(experiment, lies), tmp_path / "run")


def test_a_billion_samples_weigh_no_more_than_twice_the_middle(experiment: Experiment, tmp_path: Path):
    honest = experiment.introduction(LIAR)

    def lie(request: Message, reply: Message) -> Message:
        if kind(request) == "query":
            return saying(reply, introduced(experiment, LIAR, samples=10**9))
        facts = said(reply)
        return saying(reply, json.dumps({**facts, "samples": 10**9}))

    run_with(experiment, Puppets(experiment, {NODE: lie}), tmp_path / "run")
    (client,) = [row for row in rows_of(tmp_path / "run", "client") if row["client"] == LIAR]
    assert client["samples"] == 2 * honest.samples
    assert client["claimed"] == {"samples": 10**9}
    merged = [row for row in rows_of(tmp_path / "run", "arrival") if row["accepted"] and row["task"] == "train"]
    weights = {row["client"]: row["weight"] for row in merged if row["base_version"] == 0}
    assert weights[LIAR] == pytest.approx(2 * weights[0], rel=0.1)
    assert {row["samples"] for row in merged if row["client"] == LIAR} == {2 * honest.samples}
    assert {row["claimed"]["samples"] for row in merged if row["client"] == LIAR} == {10**9}


def test_joules_are_capped_by_the_board_that_the_fleet_names(experiment: Experiment, tmp_path: Path):
    run_with(experiment, Puppets(experiment, {NODE: with_(wall_energy_j=1e6)}), tmp_path / "run")
    watts = 2 * experiment.boards[LIAR].profile.load_w
    (row, *_) = [
        row for row in rows_of(tmp_path / "run", "arrival") if row["client"] == LIAR and row["task"] == "train"
    ]
    assert row["energy_j"] == pytest.approx(watts * (row["arrived_s"] - row["sent_s"]))
    assert row["claimed"] == {"energy_j": 1e6}


def test_honest_boards_are_believed(experiment: Experiment, tmp_path: Path):
    metrics = run_with(experiment, Puppets(experiment, {}), tmp_path / "run")
    assert (metrics["refused"], metrics["banned"]) == ({}, [])
    assert not [row for row in rows_of(tmp_path / "run") if "claimed" in row or row["kind"] in ("refused", "ban")]


def test_an_older_client_that_says_less_of_itself_is_read(experiment: Experiment, tmp_path: Path):
    def older(request: Message, reply: Message) -> Message:
        if kind(request) != "query":
            return reply
        known = asdict(experiment.introduction(LIAR))
        for key in ("gpu", "speed", "idle_w"):
            del known[key]
        return saying(reply, json.dumps({"speed": None, **known}))

    run_with(experiment, Puppets(experiment, {NODE: older}), tmp_path / "run")
    assert len(rows_of(tmp_path / "run", "client")) == 4


def test_a_board_that_is_connected_and_says_nothing_is_named(experiment: Experiment):
    """As one whose ClientApp Flower gives up before it has started, again and again."""
    grid = Puppets(experiment, {NODE: lambda request, reply: []})
    with pytest.raises(CospError, match=rf"3 of 4 .*; connected but silent: node {NODE}: is its trainer up"):
        Greeter(grid, 4).greet(timeout_s=0.05)
