"""What a stream leaves behind: models that are read like any run's, of the bits that boards hold."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_stream import opened
from tiny_runs import TINY

from cosp.checkpoints.own import read_boards, read_facts, read_state
from cosp.config import checked
from cosp.errors import UserError
from cosp.experiment import load_experiment
from cosp.export.check import trial_of
from cosp.export.chosen import choose
from cosp.predict.opened import open_model
from cosp.run.directory import RunDirectory
from cosp.stream import loop, simulate
from cosp.stream.deployed import open_deployed
from cosp.stream.seat import Seat
from cosp.stream.written import where_text
from cosp.submodel.flat import flatten, spans_of
from cosp.submodel.shape import layout_of
from cosp.submodel.slicing import extract

Ended = tuple[Path, dict[str, Any], dict[int, Seat]]
GO = ("upload.rule=all", "download.how=whole")


@pytest.fixture
def end(tmp_path: Path, run: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ended]:
    """Return a function that runs a stream to its end: its folder, its metrics, and its boards as they are then."""

    def made(*sets: str, **changes: Any) -> Ended:
        seats: dict[int, Seat] = {}

        class Seen(loop.Loop):
            def run(self) -> None:
                super().run()
                seats.update(self._seats)

        monkeypatch.setattr(simulate, "Loop", Seen)
        config, deployed = opened(tmp_path, run, *sets, **changes)
        directory = RunDirectory.create(tmp_path / "out", config)
        metrics = simulate.simulate(config, deployed, directory, workers=0, data_dir=None)
        return directory.folder, metrics, seats

    return made


def cut(folder: Path, seat: Seat) -> np.ndarray:
    """Return the submodel of a board out of the model in ``folder``."""
    layout = layout_of(read_facts(folder / "cosp.json").shape)
    return flatten(extract(read_state(folder), layout, seat.plan), spans_of(layout, seat.plan.counts)).numpy()


def held(seat: Seat) -> np.ndarray:
    return seat.answering[-1].weights.numpy()


def test_the_model_cut_for_a_board_is_in_halves_what_the_board_has(end: Callable[..., Ended]) -> None:
    folder, metrics, seats = end(*GO, "adapt.batch=64", trial=None)  # the last samples make no set that nobody gets
    (told,) = metrics["models"]
    assert (told["folder"], told["clients"], told["on_trial"]) == ("model", [0, 1, 2, 3], False)
    assert told["version"] == metrics["sets"] > 0
    current = [seat for seat in seats.values() if seat.version == told["version"]]
    assert current
    for seat in current:
        assert np.array_equal(cut(folder / "model", seat).astype(np.float16).astype(np.float32), held(seat))
    assert {board["client"]: board["version"] for board in metrics["boards"]} == {
        client: seat.version for client, seat in seats.items()
    }


def test_of_a_change_in_few_bits_a_board_lacks_what_was_not_sent_yet(end: Callable[..., Ended], run: Path) -> None:
    changes = {"adapt": {"batch": 64, "parts": ["all"]}, "trial": None, "download": {"how": "dwc", "share": 0.1}}
    folder, metrics, seats = end("upload.rule=all", **changes)
    (told,) = metrics["models"]
    current = [seat for seat in seats.values() if seat.version == told["version"]]
    assert current
    for seat in current:
        before, have, want = cut(run / "model", seat), held(seat), cut(folder / "model", seat)
        assert 0 < np.linalg.norm(want - have) < np.linalg.norm(want - before)


def test_a_stream_that_adapts_nothing_ends_with_the_model_that_it_began_with(
    end: Callable[..., Ended], run: Path
) -> None:
    folder, _, _ = end("upload.rule=none")
    before, after = read_state(run / "model"), read_state(folder / "model")
    assert all(torch.equal(before[name], after[name]) for name in before.keys() | after.keys())
    facts, given = (read_facts(one / "model" / "cosp.json") for one in (folder, run))
    assert (facts.shape, facts.plan, facts.chosen_exit, facts.reading) == (
        given.shape, given.plan, given.chosen_exit, given.reading,
    )  # fmt: skip
    assert (facts.name, facts.version, facts.adapted, given.adapted) == ("small", given.version, 0, None)
    boards, known = (read_boards(one / "model", facts.shape) for one in (folder, run))
    assert {client: board.plan for client, board in boards.items()} == {
        client: board.plan for client, board in known.items()
    }


def test_whatever_reads_a_run_reads_it(end: Callable[..., Ended]) -> None:
    folder, _, seats = end(*GO, trial=None)
    opened_again = open_model(folder)
    test = load_experiment(checked(TINY, "tiny")).splits["test"]
    logits = opened_again.answer(np.asarray(test.x))
    after = opened_again.facts.scores
    for exit_logits, score in zip(logits, after, strict=True):
        assert (exit_logits.argmax(-1) == test.y).mean() == pytest.approx(score.accuracy)
    chosen = choose(folder, after=None, board=0)
    assert chosen.client == 0
    assert trial_of(chosen, None).test is not None  # the data of the run that was adapted
    again = open_deployed(folder, data_dir=None)
    assert again.plans == {client: seat.plan for client, seat in seats.items()}
    begun = load_experiment(checked({**TINY, "model": {"pretrained": str(folder)}}, "tiny")).initial_model()
    state = read_state(folder / "model")
    assert all(torch.equal(begun[name], state[name]) for name in state)


def test_sets_of_groups_are_a_model_each_and_a_reader_is_told_which_there_are(end: Callable[..., Ended]) -> None:
    folder, metrics, _ = end(*GO, trial=None, sets=[[0, 3], [1, 2]])
    told = metrics["models"]
    assert [one["clients"] for one in told] == [[0, 3], [1, 2]]
    for one in told:
        assert one["folder"] == f"model-{one['version']}"
        facts = read_facts(folder / one["folder"] / "cosp.json")
        assert list(read_boards(folder / one["folder"], facts.shape)) == one["clients"]
        assert list(open_deployed(folder / one["folder"], data_dir=None).plans) == one["clients"]
    with pytest.raises(UserError, match=f"give one, .*{told[0]['folder']}"):
        open_model(folder)
    assert f"{told[0]['folder']} (clients 0, 3)" in where_text(folder, told)


def test_a_set_on_trial_at_the_end_lies_beside_the_good_one(end: Callable[..., Ended]) -> None:
    folder, metrics, seats = end(*GO, trial={"windows": 50, "canaries": [3]})
    good, tried = metrics["models"]
    assert (good["folder"], good["version"], good["clients"]) == ("model", 0, [0, 1, 2, 3])
    assert (tried["folder"], tried["clients"], tried["on_trial"]) == ("trial-1", [3], True)
    assert np.array_equal(cut(folder / "trial-1", seats[3]).astype(np.float16).astype(np.float32), held(seats[3]))
    assert np.array_equal(cut(folder / "model", seats[0]), held(seats[0]))
