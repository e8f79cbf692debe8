"""Runs of a whole tiny fleet of which one board attacks, and of merges that a few hostile boards do not rule."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_runs import killed_run, rows_of

from cosp.errors import ConfigError, CospError
from cosp.run.directory import RunDirectory
from cosp.simulation.simulate import simulate

pytestmark = pytest.mark.integration

Rows = list[dict[str, Any]]
Start = Callable[..., Any]
Run = Callable[..., Rows]


def fleet(attack: str, at_s: float | None = None) -> str:
    """Five boards of two sizes, the last of which attacks."""
    begin = "" if at_s is None else f", at_s: {at_s}"
    return (
        "fleet={boards: [{count: 2, device: jetson-nano, link: wifi, keep: 0.5}, "
        "{count: 2, device: jetson-orin-nano-8, link: wifi, keep: 1.0}, "
        f"{{device: jetson-orin-nano-8, link: wifi, keep: 1.0, attack: {attack}{begin}}}]}}"
    )


def of_kind(rows: Rows, kind: str) -> Rows:
    return [row for row in rows if row["kind"] == kind]


def accuracy(rows: Rows) -> float:
    return float(of_kind(rows, "round")[-1]["evaluation"]["chosen_accuracy"])


@pytest.mark.parametrize("rule", ["trimmed_mean", "multi_krum"])
def test_rows_of_a_robust_merge_are_the_same_at_any_number_of_workers_and_after_a_kill(
    rule: str, start: Start, tmp_path: Path
):
    words = (
        fleet("{kind: noise, factor: 3.0}", 0.01),
        f"method.merge.rule={rule}",
        "method.merge.clip={factor: 8}",
        "server.quorum=1.0",
        "server.versions=5",
    )
    folders = []
    for workers in (1, 2):
        experiment, directory = start(*words, out=f"workers{workers}")
        simulate(experiment, directory, workers=workers)
        folders.append(directory.folder)
    killed = tmp_path / "killed"
    killed_run(tmp_path / "tiny.yaml", killed, *words, after_rows=len(rows_of(folders[0])) * 2 // 3)
    simulate(experiment, RunDirectory(killed), workers=2, resume=True)
    one, two, resumed = ((folder / "rows.jsonl").read_bytes() for folder in (*folders, killed))
    assert one == two == resumed


def test_an_attack_by_data_is_the_same_wherever_it_is_trained(start: Start):
    def rows(workers: int) -> bytes:
        backdoor = fleet("{kind: backdoor, target: 3}", 0.01)
        experiment, directory = start(backdoor, "server.versions=2", out=f"workers{workers}")
        simulate(experiment, directory, workers=workers)
        return (directory.folder / "rows.jsonl").read_bytes()

    assert rows(0) == rows(2)


@pytest.mark.parametrize("attack", ["sign_flip", "label_flip", "{kind: backdoor, target: 3}"])
def test_until_an_attack_begins_the_run_is_an_honest_one(attack: str, run: Run):
    honest, late, attacked = (
        [row for row in run(text, "server.versions=2", out=out, workers=0) if row["kind"] in ("arrival", "round")]
        for text, out in (
            (fleet("null"), "honest"),
            (fleet(attack, 10_000), "late"),
            (fleet(attack), "attacked"),
        )
    )
    for row in late:
        if row.get("evaluation"):
            row["evaluation"].pop("backdoor", None)
    assert late == honest
    assert [row.get("drift") for row in attacked] != [row.get("drift") for row in honest]


def test_a_tenfold_lie_is_told_as_one_and_counts_twice_the_middle_board(start: Start):
    experiment, directory = start(fleet("{kind: lie_samples, factor: 10}"), "server.versions=3")
    simulate(experiment, directory, workers=0, dry=True)
    rows = rows_of(directory.folder)
    honest = sorted(row["samples"] for row in of_kind(rows, "client") if row["client"] != 4)
    (liar,) = (row for row in of_kind(rows, "client") if row["client"] == 4)
    assert liar["samples"] <= 2 * honest[-1]
    assert liar["claimed"]["samples"] >= 5 * liar["samples"] / 2 > liar["samples"]
    assert {row["samples"] for row in of_kind(rows, "arrival") if row["client"] == 4} == {liar["samples"]}


def test_who_begins_to_lie_in_mid_run_is_banned(start: Start):
    experiment, directory = start(fleet("lie_samples", 0.02), "server.versions=12")
    metrics = simulate(experiment, directory, workers=0, dry=True)
    assert set(metrics["refused"]) == {"samples"}
    assert list(map(int, metrics["banned"])) == [4]


def test_how_often_a_backdoor_opens_stands_in_rows_and_metrics(start: Start):
    experiment, directory = start(fleet("{kind: backdoor, target: 3, share: 1.0}"), "server.versions=2")
    metrics = simulate(experiment, directory, workers=0)
    told = [row["evaluation"]["backdoor"] for row in of_kind(rows_of(directory.folder), "round")]
    assert all(0 <= share <= 1 for share in told)
    assert metrics["final"]["global"]["backdoor"] == told[-1]
    assert json.loads((directory.folder / "metrics.json").read_text())["final"]["global"]["backdoor"] == told[-1]


def test_without_backdoor_boards_rows_say_nothing_of_one(run: Run):
    rows = run(fleet("sign_flip"), "server.versions=2")
    assert all("backdoor" not in row["evaluation"] for row in of_kind(rows, "round"))


def test_an_update_times_1000_ruins_a_mean_and_not_what_is_recommended(run: Run):
    long = ("server.versions=8", "server.quorum=1.0", "training.epochs=4", "training.learning_rate=0.01")
    mean = accuracy(run(fleet("scale"), *long, out="mean", workers=0))
    merge = "method.merge={rule: multi_krum, attackers: 0.3, clip: {factor: 8}}"
    assert accuracy(run(fleet("scale"), *long, merge, out="recommended", workers=0)) > mean + 0.1


def test_no_round_closes_with_fewer_arrivals_than_its_rule_needs(run: Run):
    rows = run(fleet("null"), "method.merge.rule=median", "server.quorum=1.0", "server.deadline_s=0.001", dry=True)
    closed = of_kind(rows, "round")[1:]
    assert "deadline" in {row["closed_by"] for row in closed}
    assert min(row["arrivals"] for row in closed) >= 3


def test_a_round_that_stays_too_small_is_thrown_away_and_told(start: Start):
    """The tasks of three boards of five are lost: two are no three."""
    experiment, directory = start(
        "fleet={boards: [{count: 2, device: jetson-nano, link: wifi, keep: 0.5}, "
        "{count: 3, device: jetson-nano, link: wifi, keep: 0.5, dropout: 1.0}]}",
        "method.merge.rule=median",
        "server.quorum=1.0",
    )
    with pytest.raises(CospError, match=r"no client brings an update to version 0: refused .*'few': "):
        simulate(experiment, directory, workers=0, dry=True)
    thrown = of_kind(rows_of(directory.folder), "refused")
    assert {(row["reason"], row["detail"]) for row in thrown} == {("few", "few: 2 updates, median needs 3")}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("method.merge.rule=multi_krum", "server.quorum=0.5"),
            r"method.merge.rule: multi_krum needs 5 arrivals a round, but server.quorum 0.5 of 5 boards at work closes "
            "one at 3: raise server.quorum, or take rule mean",
        ),
        (("method.merge.rule=median", "server.quorum=2"), "median needs 3 arrivals a round, but server.quorum 2 of 5"),
        (
            ("method.merge.rule=median", "server.quorum=1.0", "server.concurrency=2"),
            "server.quorum 1.0 of 2 boards at work closes one at 2",
        ),
        (
            ("method={name: fedbuff, buffer: 2, merge: {rule: krum}}",),
            "krum needs 5 arrivals a round, but method.buffer 2 of 5 boards at work closes one at 2: raise method.buf",
        ),
        (
            ("method={name: fedasync, merge: {rule: median}}",),
            "method.merge.rule: must be mean, got median: the method",
        ),
        (("method={name: fiarse, merge: {rule: median}}",), "method.merge.rule: must be mean, got median: the method"),
    ],
)
def test_a_setting_that_can_never_give_a_rule_its_arrivals_is_one_line(words: tuple[str, ...], said: str, start: Start):
    experiment, directory = start(fleet("null"), *words)
    with pytest.raises(ConfigError, match=said):
        simulate(experiment, directory, workers=0, dry=True)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((fleet("{kind: backdoor, target: 10}"),), "attack: backdoor: target must be below 10, the number of classes"),
        ((fleet("sign_flip"), "method={name: fedpm}"), "attack: sign_flip changes weight changes, and boards send mas"),
        (
            ("data={name: text, declared: {shape: [8], vocabulary: 9, classes: 3, samples_per_client: 20}}",
             "model={dim: 16, blocks: 1, heads: 2, hidden: 16, exits: [1]}", fleet("backdoor")),
            "attack: backdoor puts a trigger on images, text has texts: take another attack",
        ),
    ],
)  # fmt: skip
def test_an_attack_that_a_run_has_no_room_for_is_one_line(words: tuple[str, ...], said: str, start: Start):
    with pytest.raises(ConfigError, match=f"fleet: {said}"):
        start(*words)


@pytest.mark.parametrize("attack", ["sign_flip", "noise"])
def test_a_dry_run_has_no_update_to_attack(attack: str, run: Run):
    rows = run(fleet(attack), "server.versions=2", dry=True)
    assert of_kind(rows, "round")[-1]["version"] == 2


def test_an_attack_on_what_is_trained_leaves_frozen_parts_alone(run: Run):
    rows = run(fleet("sign_flip"), "training.frozen=[inputs, norms]", "server.versions=2")
    arrivals = [row for row in of_kind(rows, "arrival") if row["client"] == 4 and row["task"] == "train"]
    assert arrivals
    assert all(row["accepted"] for row in arrivals)
