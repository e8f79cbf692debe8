"""Runs whose boards add noise to what they send, and what that is said to be worth."""

from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_runs import whole_and_resumed_rows

from cosp.errors import ConfigError
from cosp.report import write_report
from cosp.server.privacy import epsilon
from cosp.simulation.simulate import simulate
from cosp.task.privacy import PrivacySettings

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(importlib.util.find_spec("opacus") is None, reason="needs the extra privacy"),
]

PRIVATE = ("method.units=random", "server.checkpoint_every=1", "training.privacy={clip: 1.0, noise: 0.5}")
SETTINGS = PrivacySettings(clip=1.0, noise=0.5)


def trained(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row for row in rows if row["kind"] == "arrival" and row["task"] == "train"]


def test_rows_metrics_and_report_say_what_was_spent(start: Callable[..., Any]):
    experiment, directory = start(*PRIVATE)
    simulate(experiment, directory, workers=0)
    rows = trained([json.loads(line) for line in (directory.folder / "rows.jsonl").read_text().splitlines()])
    given = dict.fromkeys(range(4), 0)
    for row in rows:
        given[row["client"]] += 1
        assert row["epsilon"] >= epsilon(SETTINGS, given[row["client"]])  # or more: the next may be under way
    told = json.loads((directory.folder / "metrics.json").read_text())["privacy"]
    assert told["delta"] == 1e-5
    assert all(told["epsilon"][str(row["client"])] >= row["epsilon"] for row in rows)
    page = write_report([directory.folder], directory.folder / "report.html").read_text(encoding="utf-8")
    assert "updates cut to norm 1, noise 0.5 times that on every board" in page
    assert f"epsilon {max(row['epsilon'] for row in rows):.3g} at most" in page


def test_noise_is_the_same_for_any_number_of_workers_and_after_a_kill(start: Callable[..., Any], tmp_path: Path):
    experiment, directory = start(*PRIVATE, out="inline")
    simulate(experiment, directory, workers=0)
    config = tmp_path / "private.yaml"
    config.write_text((directory.folder / "config.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    whole, resumed = whole_and_resumed_rows(config, *start(*PRIVATE, out="whole"), tmp_path / "killed")
    assert (directory.folder / "rows.jsonl").read_bytes() == (tmp_path / "whole" / "rows.jsonl").read_bytes()
    assert resumed == whole


def test_without_privacy_nothing_is_said_of_it(run: Callable[..., list[dict[str, Any]]], tmp_path: Path):
    assert all("epsilon" not in row for row in run("server.versions=1"))
    assert "privacy" not in json.loads((tmp_path / "run" / "metrics.json").read_text())


@pytest.mark.parametrize("updates", [1, 7, 100])
@pytest.mark.parametrize("noise", [0.3, 1.0, 8.0])
def test_epsilon_is_no_less_than_the_exact_one_and_not_much_more(noise, updates):
    """k Gaussian mechanisms are one of noise / sqrt(k), whose delta is known (Balle and Wang 2018, theorem 8)."""

    def delta_of(found: float) -> float:
        mu = math.sqrt(updates) / noise
        below, above = -found / mu + mu / 2, -found / mu - mu / 2
        phi = lambda x: math.erfc(-x / math.sqrt(2)) / 2  # noqa: E731
        return phi(below) - (math.exp(found + math.log(phi(above))) if phi(above) else 0.0)

    found = epsilon(PrivacySettings(clip=1.0, noise=noise), updates)
    assert delta_of(found) <= 1e-5
    assert delta_of(0.8 * found) > 1e-5 or found > 100


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        (("method.units=core_rolling",), r"co-s2p chooses units by scores of a client's data \(taylor\): take"),
        (("method={name: prunefl}",), r"prunefl chooses units by scores of a client's data"),
        (("method={name: fedpm}",), "an update of fedpm is a mask of bits"),
    ],
)
def test_what_tells_of_data_beside_updates_is_refused(start: Callable[..., Any], settings, why):
    experiment, _ = start(*PRIVATE, *settings)
    with pytest.raises(ConfigError, match=f"^training.privacy: .*{why}"):
        experiment.method(experiment.introductions)


def test_a_wrong_setting_is_one_line(start: Callable[..., Any]):
    with pytest.raises(ConfigError, match=r"training\.privacy: noise must be > 0, got 0"):
        start("training.privacy={clip: 1.0, noise: 0.0}")
