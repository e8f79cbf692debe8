"""A stream's configuration is read strictly: what is wrong is one line with file, key, value and rule."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from small_stream import STREAM, opened, written

from cosp.cli import main as cli
from cosp.config import load_config
from cosp.errors import ConfigError, UserError
from cosp.stream.fitting import fitting_fleet
from cosp.stream.settings import load_adapt

EVERY = STREAM["stream"]


def stream(**changes: Any) -> dict[str, Any]:
    return {"stream": {**EVERY, **changes}}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model": None}, "stream needs a model that serves it: give model: {pretrained: RUN}"),
        (
            stream(drift=[{"at_s": 1, "corruption": "contrst"}]),
            "stream.drift.0.corruption: unknown corruption 'contrst'; known: none, gaussian_noise",
        ),
        (stream(drift={"every_s": 5, "corruptions": ["fog"]}), "stream.drift.corruptions: unknown corruption 'fog'"),
        (stream(drift={"every_s": 5, "severities": [0]}), "stream.drift.severities: must be some of 1..5, got [0]"),
        (
            stream(drift=[{"at_s": 2, "corruption": "none"}, {"at_s": 2, "corruption": "patch"}]),
            "stream.drift: at_s must grow from one to the next, got [2.0, 2.0]",
        ),
        (stream(window_s=60), "stream: window_s 60 is longer than the stream, until_s 50"),
        (stream(boards=[{"clients": [1]}, {"clients": [1, 2]}]), "stream: boards: client 1 is named twice"),
        (stream(per_minute=3), "stream: unknown key 'per_minute'"),
        ({"upload": {"rule": "hardest"}}, "upload: rule must be one of"),
        ({"download": {"how": "dwc", "share": 2}}, "download: share must lie in (0, 1], got 2"),
        ({"trial": {"canaries": -1}}, "trial.canaries: must be a number of boards or which, got -1"),
        ({"sets": "board", "trial": {"canaries": 1}}, "trial.canaries try a set for others"),
    ],
)
def test_what_is_wrong_is_one_line(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    path = written(tmp_path, tmp_path, **changes)
    with pytest.raises(ConfigError) as refused:
        load_adapt(path)
    assert said in str(refused.value)
    assert str(refused.value).startswith(f"{path}: ")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"upload": {"rule": "all", "most_bytes": 63}}, "upload.most_bytes must hold a sample, which takes 64, got 63"),
        (stream(boards=[{"clients": [7]}]), "stream.boards: client 7 holds no submodel of"),
        ({"trial": {"canaries": [9]}}, "trial.canaries: client 9 holds no submodel of"),
        ({"sets": [[0, 1], [1, 2, 3]]}, "sets: client 1 is in 2 of them, and must be in one"),
        ({"sets": [[0, 1], [3]]}, "sets: client 2 is in 0 of them, and must be in one"),
        ({"fleet": "mini4-nothing"}, "fleet: unknown fleet"),
        ({"fleet": {"boards": [{"device": "jetson-nano"}]}}, "fleet: boards.0.link: is missing"),
        ({"fleet": {"boards": [{"device": "jetson-nano", "link": "wifi"}]}}, "fleet: has 1 boards, and client 3 of"),
        (stream(batch=10_000_000), "stream: client 0 (jetson-nano) needs"),
    ],
)
def test_what_does_not_go_together_is_one_line(changes: dict[str, Any], said: str, tmp_path: Path, run: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        fitting_fleet(*opened(tmp_path, run, **changes))
    assert said in str(refused.value)


def test_a_stream_is_not_trained_and_a_run_does_not_serve(tmp_path: Path, run: Path) -> None:
    with pytest.raises(ConfigError, match="give it to cosp adapt"):
        load_config(written(tmp_path, run))
    with pytest.raises(ConfigError, match="stream: is missing"):
        load_adapt(run / "config.yaml")


def test_a_model_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere is not there; give the directory of a run that has ended"):
        opened(tmp_path, tmp_path / "nowhere")


def test_a_board_s_own_stream_says_only_what_differs(tmp_path: Path, run: Path) -> None:
    config = load_adapt(written(tmp_path, run, **stream(boards=[{"clients": [2], "per_s": 9}])))
    own, other = config.stream.of(2), config.stream.of(0)
    assert (own.per_s, other.per_s) == (9, 1)
    assert own.drift == other.drift != ()
    assert own.order == "shuffled"


@pytest.mark.parametrize(
    "given",
    [
        "model=null",
        "stream.drift=[{at_s: 1, corruption: fog}]",
        "fleet={boards: [{count: 4, device: jetson-nano}]}",
        "upload.most_bytes=10",
    ],
)
def test_the_command_says_so_in_a_line_with_exit_code_2_and_writes_nothing(
    given: str, tmp_path: Path, run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = written(tmp_path, run), tmp_path / "out"
    words = ["cosp", "adapt", str(path), "--set", given, "--workers", "0", "--no-report", "--out", str(out)]
    monkeypatch.setattr("sys.argv", words)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capsys.readouterr().err
    assert ended.value.code == 2
    (line,) = [line for line in said.splitlines() if line.startswith("cosp: ")]
    assert line == said.strip().splitlines()[-1]
    assert not out.exists()
