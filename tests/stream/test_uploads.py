"""What boards send of a window comes to the server as what they saw, in the shorter form."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_stream import opened

from cosp.adaptation.answers import Answers
from cosp.adaptation.posted import Model, Post, UpSettings
from cosp.adaptation.tokens import TokenSettings
from cosp.errors import ConfigError
from cosp.stream.arrivals import Arrivals
from cosp.stream.deployed import Deployed
from cosp.stream.fitting import fitting_fleet
from cosp.stream.seat import Seat
from cosp.stream.server import Published
from cosp.stream.uploads import Uploads, post_of


@pytest.fixture
def deployed(tmp_path: Path, run: Path) -> Deployed:
    return opened(tmp_path, run)[1]


def seat_of(deployed: Deployed, client: int) -> Seat:
    plan = deployed.plans[client]
    model = Published(version=0, group=0, model=deployed.state, layout=deployed.layout)
    nothing = Arrivals(times_s=np.zeros(0), rows=np.zeros(0, np.int64), shifts=())
    board = deployed.experiment.fleet.boards[client]
    return Seat(board=board, plan=plan, exit=0, coming=nothing, first=0, weights=model.weights(plan))


def post(deployed: Deployed, **settings: Any) -> Post:
    return post_of(UpSettings(**settings), deployed.facts.reading, deployed.facts.shape)


def model_of(seat: Seat) -> Model:
    return Model(seat.plan, seat.answering[-1].weights)


def seen(deployed: Deployed, count: int) -> np.ndarray:
    return np.asarray(deployed.experiment.splits["test"].x[:count])


def test_pixels_come_within_half_a_level(deployed: Deployed) -> None:
    x, ours = seen(deployed, 5), post(deployed)
    (found,) = ours.read(ours.written(x, model_of(seat_of(deployed, 0)), np.random.default_rng(0)))
    level = 16 / 255 / np.array(deployed.facts.reading.std).min()
    assert found.batch.after is None
    assert np.abs(found.batch.x.numpy() - x).max() <= level / 2 + 1e-6
    assert found.rows.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("how", ["norm", "leave", "random", "merge"])
def test_few_tokens_are_shorter_than_pixels_and_go_on_where_the_board_left(deployed: Deployed, how: str) -> None:
    x, ours = seen(deployed, 4), post(deployed, tokens=TokenSettings(how=how, rho=0.25, after=1))
    model, rng = model_of(seat_of(deployed, 2)), np.random.default_rng(0)
    message = ours.written(x, model, rng)
    assert len(message) < len(post(deployed).written(x, model, rng))
    (found,) = ours.read(message)
    assert found.batch.after == 1
    assert found.batch.x.shape == (4, 2, 16)  # the class token and one of four
    assert found.batch.sizes is not None
    assert set(found.batch.sizes.sum(1).tolist()) == {5 if how == "merge" else 2}


def test_tokens_that_would_be_longer_are_not_sent(deployed: Deployed) -> None:
    ours = post(deployed, tokens=TokenSettings(how="norm", rho=1.0, after=0))
    (found,) = ours.read(ours.written(seen(deployed, 4), model_of(seat_of(deployed, 2)), np.random.default_rng(0)))
    assert found.batch.after is None


def test_a_budget_holds_what_is_chosen(deployed: Deployed) -> None:
    x = seen(deployed, 20)
    logits = np.random.default_rng(0).normal(size=(20, 2, 10)).astype(np.float32)
    answers = Answers(logits=logits, exit=1, rows=np.arange(20))
    ours = post(deployed, rule="random", most_bytes=3 * 64)
    seat = seat_of(deployed, 2)
    choice, message = Uploads(ours, seed=0).chosen(seat, answers, x)
    assert len(choice.rows) == 3
    assert torch.equal(
        ours.read(message)[0].batch.x,
        ours.read(ours.written(x[choice.rows], model_of(seat), np.random.default_rng(1)))[0].batch.x,
    )
    assert post(deployed).sample_bytes == 64
    assert ours.read(b"") == []


def test_tokens_behind_a_block_that_a_board_has_not_are_one_line(tmp_path: Path, run: Path) -> None:
    config, deployed = opened(tmp_path, run, upload={"tokens": {"how": "norm", "after": 2}})
    with pytest.raises(ConfigError, match="upload.tokens.after: 2, and a board holds 1 blocks alone"):
        fitting_fleet(config, deployed)


def test_tokens_that_no_exit_reads_are_one_line(tmp_path: Path, run: Path) -> None:
    config, deployed = opened(tmp_path, run, upload={"tokens": {"how": "norm", "after": 2}})
    deep = {client: plan for client, plan in deployed.plans.items() if plan.depth == 2}
    with pytest.raises(ConfigError, match="upload.tokens.after: 2, and no exit stands behind that: the last is 2's"):
        fitting_fleet(config, replace(deployed, plans=deep))
