"""The command line as a person meets it: help with examples, tables, JSON, and one-line errors with exit code 2."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from cosp.cli import main as cli
from cosp.cli.screen import free_folder

ROOT = Path(__file__).parents[2]
DIGITS = "experiments/tables/digits.yaml"
QUICKSTART = str(ROOT / "experiments" / "quickstart.yaml")


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run the command line in this process and return its exit code."""
    monkeypatch.setattr("sys.argv", ["cosp", *arguments])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return int(stop.value.code or 0)


@pytest.mark.parametrize(
    "command",
    [
        "run", "plan", "devices", "table", "report", "calibrate", "client", "trainer", "store", "keys server",
        "keys node", "server start", "server admit", "server nodes", "server run",
    ],
)  # fmt: skip
def test_every_command_has_help_with_an_example(command, monkeypatch, capsys):
    assert call(monkeypatch, *command.split(), "--help") == 0
    assert f"cosp {command}" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "--nix"], "No such option '--nix'. Did you mean '--engine'? See cosp run --help"),
        (["run", QUICKSTART, "--workers", "0"], "Invalid value for '--workers': 0 is not in the range x>=1"),
        (["plan"], "Missing argument 'CONFIG'; see cosp plan --help"),
        (["keys", "nix"], "No such command 'nix'; see cosp keys --help"),
        (["run", QUICKSTART, "--set", "a\nb=3"], "unknown key 'a\\nb'"),
        (["run"], "give either CONFIG or --resume DIR"),
        (["run", "nope.yaml"], "nope.yaml: cannot be read"),
        (
            ["run", QUICKSTART, "--set", "server.quorom=1"],
            "server: unknown key 'quorom'; known: versions, until_s, quorum",
        ),
        (["run", QUICKSTART, "--set", "server.quorum=2.5"], "server.quorum: a share must lie in (0, 1], got 2.5"),
        (["run", QUICKSTART, "--set", "training.batch_size=many"], "training.batch_size"),
        (["run", QUICKSTART, "--set", "model.dim=many"], "model.dim: must be a valid integer"),
        (["run", QUICKSTART, "--set", "model={pretrained: /nowhere}"], "there is no /nowhere; give a folder"),
        (
            ["run", QUICKSTART, "--set", "model={pretrained: /nowhere, dim: 3}"],
            "quickstart.yaml: model: unknown key 'dim'; known: pretrained, exits, pooling",
        ),
        (
            ["run", QUICKSTART, "--set", "model={pretrained: /nowhere, pooling: max}"],
            "model.pooling: must be",
        ),
        (["run", QUICKSTART, "--set", "model.adapters={rank: 0}"], "rank must be a whole number of at least 1, got 0"),
        (
            ["run", QUICKSTART, "--set", "model.adapters={projections: [keys]}"],
            "projections must name some of query, key, value, output",
        ),
        (["run", QUICKSTART, "--set", "model.adapters={rank: 999}"], "model: adapters.rank must be at most"),
        (
            ["run", QUICKSTART, "--set", "method={name: hetlora}"],
            "method hetlora trains adapters, and the model has none",
        ),
        (["run", QUICKSTART, "--set", "training.frozen=[trunk]"], "trunk leaves nothing of the blocks to train"),
        (
            ["run", QUICKSTART, "--set", "model.adapters={rank: 4}", "--set", "method={name: platon}"],
            "model.adapters does not go with method platon",
        ),
        (
            [
                "run",
                QUICKSTART,
                "--set",
                "model.adapters={rank: 4}",
                "--set",
                "method={name: hetlora}",
                "--set",
                "assignment.rule=memory_share",
                "--set",
                "fleet={boards: [{count: 2, device: jetson-nano, link: wifi, keep: 0.1}]}",
            ],
            "do not hold the frozen trunk, which is held whole, with adapters of rank 1",
        ),
        (["run", QUICKSTART, "--set", "fleet=paper17"], "unknown fleet 'paper17'"),
        (["run", QUICKSTART, "--set", "data.name=fashion_mnist"], "--data-dir"),
        (["table", QUICKSTART, "--at", "weak"], "quickstart.yaml has no grid; leave --at out"),
        (["table", QUICKSTART, "--at", "weak", "--dry"], "quickstart.yaml has no grid; leave --at out"),
        (["table", QUICKSTART, "--no-run"], "quickstart.yaml keeps no results that a table could be made of"),
        (["table", DIGITS, "--no-run", "--out", "/nowhere"], "/nowhere: holds no results of"),
        (["devices", "probe", "--root", "/nowhere"], "--root /nowhere: is not a folder"),
        (["run", QUICKSTART, "--out", "/proc/nowhere"], "/proc/nowhere: cannot be written"),
        (["server", "start"], "give either --keys DIR (cosp keys server makes them) or --insecure"),
        (["server", "start", "--keys", "keys", "--insecure"], "give either --keys DIR"),
        (["server", "nodes", "--state", "nowhere"], "nowhere: no server's state; start one: cosp server start"),
        (["server", "run"], "give either CONFIG [--out DIR]"),
        (["client", "--server", "a:1", "--number", "0"], "give --ca ca.crt and --key NAME.key"),
        (["client", "--server", "a:1", "--number", "0", "--insecure", "--ca", "x"], "or --insecure alone"),
        (["client", "--server", "a:1", "--number", "0", "--ca", "nope.crt", "--key", "k"], "nope.crt: is no file"),
        (["client", "--server", "a:1", "--number", "0", "--insecure", "--keep", "2"], "must lie in (0, 1]"),
        (["trainer"], "--data STORE is missing"),
        (["trainer", "--data", "/nowhere"], "/nowhere: holds no board's store"),
        (["run", "--resume", "/nowhere"], "/nowhere: holds no run to go on with"),
        (["run", QUICKSTART, "--dry", "--export", "onnx"], "--dry trains no model: no --export beside it"),
        (["run", QUICKSTART, "--json", "--predict", "a"], "--json prints the metrics alone: no --predict beside it"),
        (["plan", QUICKSTART, "--set", "model.patch=3"], "model: patch must divide image"),
        (
            ["plan", QUICKSTART, "--set", "assignment={rule: time, target_round_s: 0.03}"],
            "client 2 (jetson-nano, wifi): time: no submodel makes a round of 0.03 s, the fastest takes",
        ),
        (["devices", "jetson-nanoo"], "did you mean 'jetson-nano'"),
        (["table", QUICKSTART, "--seeds", "a,b"], "must be comma-separated whole numbers"),
        (["calibrate", "--like", "jetson-nanoo"], "did you mean 'jetson-nano'"),
        (["calibrate", "--out", "/proc/mine.yaml"], "/proc/mine.yaml: cannot be written"),
        (["report", "/nowhere"], "/nowhere"),
    ],
)
def test_a_wrong_input_is_one_line_that_says_what_and_exit_code_2(arguments, said, monkeypatch, capsys):
    monkeypatch.delenv("COSP_DATA_DIR", raising=False)
    assert call(monkeypatch, *arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("cosp: ")
    assert said in line


def test_a_run_directory_is_not_overwritten(monkeypatch, capsys, tmp_path):
    (tmp_path / "rows.jsonl").touch()
    assert call(monkeypatch, "run", QUICKSTART, "--out", str(tmp_path)) == 2
    assert "holds a run already" in capsys.readouterr().err


def test_that_a_folder_holds_a_run_is_said_before_data_are_looked_for(monkeypatch, capsys, tmp_path):
    monkeypatch.delenv("COSP_DATA_DIR", raising=False)
    (tmp_path / "rows.jsonl").touch()
    fashion = str(Path(QUICKSTART).with_name("fashion_mnist.yaml"))
    assert call(monkeypatch, "run", fashion, "--out", str(tmp_path)) == 2
    assert "holds a run already" in capsys.readouterr().err


def test_plan_as_json_has_a_row_for_each_board_within_its_share_and_memory(monkeypatch, capsys):
    assert call(monkeypatch, "plan", QUICKSTART, "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["client"] for row in rows] == list(range(16))
    assert all(row["share"] <= row["keep"] for row in rows)
    assert all(row["memory_bytes"] <= row["memory_limit_bytes"] for row in rows)
    scored = [row for row in rows if row["keep"] < 1]
    assert all(row["score_memory_bytes"] <= row["memory_limit_bytes"] for row in scored)
    assert {row["score_memory_bytes"] for row in rows if row not in scored} == {None}  # they hold every unit
    assert all(row["task_range_s"][0] <= row["task_s"] <= row["task_range_s"][1] for row in rows)
    assert {row["calibration"] for row in rows} == {"default, uncalibrated"}


def test_brackets_in_a_name_are_no_markup(monkeypatch, capsys, tmp_path):
    path = tmp_path / "[red]a[xx].yaml"
    path.write_text(Path(QUICKSTART).read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert call(monkeypatch, "plan", path.name) == 0
    assert capsys.readouterr().out.startswith("Submodels of [red]a[xx].yaml, assigned by rate")


def test_devices_lists_every_board_and_shows_one_with_its_sources(monkeypatch, capsys):
    assert call(monkeypatch, "devices", "--json") == 0
    names = {profile["name"] for profile in json.loads(capsys.readouterr().out)}
    assert "jetson-nano" in names
    assert call(monkeypatch, "devices") == 0
    assert names <= set(capsys.readouterr().out.split())  # whole, in a terminal of 80 columns
    assert call(monkeypatch, "devices", "jetson-nano", "--json") == 0
    assert dict(json.loads(capsys.readouterr().out)["sources"])["derived"]
    assert call(monkeypatch, "devices", "jetson-nano") == 0
    shown = capsys.readouterr().out
    assert "0.45 - 0.55" in shown  # the range of eta0
    assert "Expected between: 74.3 to 90.8 GFLOP/s" in shown


def test_devices_probe_says_which_board_this_is(monkeypatch, capsys, board_root):
    root = str(board_root("jetson-nano"))
    assert call(monkeypatch, "devices", "probe", "--root", root) == 0
    assert "board: jetson-nano, mode: MAXN\nmemory for training: 2,614 MiB" in capsys.readouterr().out
    assert call(monkeypatch, "devices", "probe", "--root", root, "--json") == 0
    assert json.loads(capsys.readouterr().out)["machine"]["l4t"] == "32.7.1"


def test_a_dry_run_leaves_rows_metrics_and_a_report(monkeypatch, capsys, tmp_path):
    out = tmp_path / "run"
    assert call(monkeypatch, "run", QUICKSTART, "--dry", "--out", str(out), "--set", "server.versions=2", "--json") == 0
    assert json.loads(capsys.readouterr().out)["rounds"] == 2
    assert {path.name for path in out.iterdir()} >= {"config.yaml", "rows.jsonl", "metrics.json", "report.html"}


def test_a_run_without_a_report_says_what_draws_it(monkeypatch, capsys, tmp_path):
    out = tmp_path / "run"
    assert call(monkeypatch, "run", QUICKSTART, "--dry", "--no-report", "--out", str(out)) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"report: none yet: cosp report {out}"
    assert not (out / "report.html").exists()


def test_a_run_without_out_takes_the_first_free_folder(tmp_path):
    assert free_folder(tmp_path, "a") == tmp_path / "a"
    (tmp_path / "a").mkdir()
    assert free_folder(tmp_path, "a") == tmp_path / "a-2"


def test_notes_on_data_stand_beside_the_result(tmp_path, monkeypatch, capsys):
    x, y = np.zeros((200, 8, 8), np.uint8), np.arange(200) % 2
    np.savez(tmp_path / "mine.npz", x=x, y=y, client=y, weight=y)
    sets = ["--set", f"data.name={tmp_path / 'mine.npz'}", "--set", "fleet=equal4"]
    assert call(monkeypatch, "plan", QUICKSTART, *sets, "--json") == 0
    printed = capsys.readouterr()
    assert len(json.loads(printed.out)) == 4
    assert "mine.npz: array 'weight' is not used" in printed.err
    assert "array 'client' is not used; data.partition.kind column shares out by it" in printed.err
