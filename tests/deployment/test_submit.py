"""A run on boards as its command follows it: rows that are cut and written anew, when it is started again, when not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from cosp.deployment import submit
from cosp.deployment.submit import run_on_boards
from cosp.errors import CospError, UserError
from cosp.run.directory import RunDirectory

COMPLETED = ("finished:completed", "")
DIED = ("finished:failed", "ServerApp died")


def rounds(first: int, last: int, note: str = "") -> str:
    found = ({"kind": "round", "version": version, "note": note} for version in range(first, last + 1))
    return "".join(json.dumps(row) + "\n" for row in found)


class Outcomes:
    """Stands where SuperLink is: every start does what its step says to the run's folder, and ends as it says."""

    def __init__(self, *steps: tuple[Callable[[], object], tuple[str, str]]) -> None:
        self.steps = list(steps)
        self.resumed: list[object] = []

    def start(self, run_config) -> str:
        self.resumed.append(run_config["resume"])
        act, self.ended = self.steps[len(self.resumed) - 1]
        act()
        return str(len(self.resumed))

    def status(self, run: str) -> tuple[str, str]:
        return self.ended

    def nodes(self) -> list[dict[str, str]]:
        return []


@pytest.fixture
def follow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(submit, "FOLLOW_S", 0.0)
    monkeypatch.setattr(submit, "STATUS_S", 0.0)
    seen: list[tuple[int, str]] = []

    def run(*steps, restarts: int) -> tuple[Outcomes, list[tuple[int, str]]]:
        control = Outcomes(*steps)
        run_on_boards(control, {"resume": False}, tmp_path, restarts=restarts, say=lambda text: None,
                      on_row=lambda row: seen.append((row["version"], row["note"])))  # fmt: skip
        return control, seen

    return run


def write(folder: Path, text: str) -> Callable[[], object]:
    return lambda: (folder / "rows.jsonl").write_text(text, encoding="utf-8")


def finish(folder: Path, text: str) -> Callable[[], object]:
    return lambda: (write(folder, text)(), (folder / "metrics.json").write_text('{"rounds": 9}', encoding="utf-8"))


def test_what_does_not_resume_ends_with_its_serverapp(tmp_path):
    control = Outcomes((write(tmp_path, rounds(0, 3)), DIED))
    with pytest.raises(CospError, match="ServerApp died; see the server's log; begin it anew with another --out"):
        run_on_boards(control, {"resume": False}, tmp_path, restarts=3, say=lambda text: None,
                      on_row=lambda row: None, resumes=False)  # fmt: skip
    assert control.resumed == [False]


def test_rows_that_were_cut_and_grew_again_are_followed_from_where_they_differ(follow, tmp_path):
    """The new rows are longer than the old ones, so that where reading stopped is the middle of a row."""
    control, seen = follow(
        (write(tmp_path, rounds(0, 3)), DIED),
        (finish(tmp_path, rounds(0, 1) + rounds(2, 9, "made again, at some more length")), COMPLETED),
        restarts=1,
    )
    assert [version for version, _ in seen] == [0, 1, 2, 3, *range(2, 10)]
    assert {note for version, note in seen[4:]} == {"made again, at some more length"}
    assert control.resumed == [False, True]


@pytest.mark.parametrize("kept", ["", rounds(0, 0), rounds(0, 2)])
def test_rows_that_were_cut_and_are_short_still_are_followed(follow, tmp_path, kept):
    _, seen = follow((write(tmp_path, rounds(0, 3)), DIED), (finish(tmp_path, kept), COMPLETED), restarts=1)
    assert seen == [(version, "") for version in range(4)]


def test_a_row_that_is_being_written_is_waited_for(follow, tmp_path):
    _, seen = follow(
        (write(tmp_path, rounds(0, 1) + rounds(2, 2)[:9]), DIED),
        (finish(tmp_path, rounds(0, 2)), COMPLETED),
        restarts=1,
    )
    assert seen == [(0, ""), (1, ""), (2, "")]


def test_a_run_that_dies_without_a_new_version_is_given_up(follow, tmp_path):
    died = (write(tmp_path, rounds(0, 0)), DIED)
    with pytest.raises(CospError, match=r"run 3 ended: finished:failed ServerApp died; .* --resume"):
        follow(died, died, died, restarts=2)


def test_a_run_whose_directory_cannot_be_written_is_not_started_again(follow, tmp_path):
    """Whatever it had made: only a person can make room."""
    directory = RunDirectory(tmp_path)
    with pytest.raises(UserError) as error, directory.writing():
        raise OSError(28, "No space left on device")
    full = (write(tmp_path, rounds(0, 3)), ("finished:failed", f"ServerApp failed with exception: {error.value}"))
    with pytest.raises(CospError, match=r"^run 1 ended: .*No space left on device.* cosp server run --resume"):
        follow(full, restarts=3)


def test_boards_that_are_waited_for_are_named_once_for_each_answer(tmp_path):
    said: list[str] = []
    missing = submit._Missing(tmp_path, said.append)
    nodes = [{"node-id": "7", "name": "kitchen", "status": "online"}, {"node-id": "9", "name": "", "status": "offline"}]
    for silent_s in (10.0, 50.0, 60.0):
        (tmp_path / "now.json").write_text(json.dumps({"silent": {"7": silent_s}}), encoding="utf-8")
        missing.tell(nodes)
    (tmp_path / "now.json").unlink()
    missing.tell([{**node, "status": "online"} for node in nodes])
    assert said[0] == "waiting for boards; not online: 9"
    assert said[1].startswith(
        "waiting for boards; not online: 9; connected but silent: kitchen: is the trainer there up"
    )
    assert said[2:] == ["all boards are online"]


def test_a_fleet_that_is_there_at_once_is_no_news(tmp_path):
    said: list[str] = []
    submit._Missing(tmp_path, said.append).tell([{"node-id": "7", "name": "kitchen", "status": "online"}])
    assert said == []
