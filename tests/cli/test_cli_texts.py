"""Texts at the command line: wrong input is one line and exit code 2, right input trains and leaves its tokenizer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tokenizers
import yaml

from cosp.cli import main as cli

CONFIG = {
    "name": "films",
    "data": {"name": "films", "tokens": 12, "partition": {"kind": "iid"}},
    "fleet": "equal4",
    "model": {"dim": 8, "blocks": 1, "heads": 1, "hidden": 8, "exits": [1]},
    "method": {"name": "fedavg"},
    "training": {"epochs": 1, "batch_size": 8},
    "server": {"versions": 1, "quorum": 0.5},
}
GOOD, BAD = "a good film,praise\n", "a dull film,blame\n"


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["cosp", *arguments])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return int(stop.value.code or 0)


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Write texts and their configuration into the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COSP_DATA_DIR", raising=False)
    Path("films").mkdir()
    Path("films/train.csv").write_text("text,label\n" + (GOOD + BAD) * 40)
    Path("films/test.csv").write_text("text,label\n" + (GOOD + BAD) * 5)
    Path("films.yaml").write_text(yaml.safe_dump(CONFIG))
    return "films.yaml"


@pytest.mark.parametrize(
    ("train", "sets", "said"),
    [
        (None, ["data.text=review"], "films/train.csv has no column 'review'; it has 'text', 'label': set data.text"),
        (None, ["data.label=stars"], "films/train.csv has no column 'stars'"),
        (None, ["data.text_pair=title"], "films/train.csv has no column 'title'"),
        ("text,label\n" + GOOD + " ,blame\n", [], "films/train.csv: line 3 has no text in column 'text'"),
        ("text,label\n" + GOOD + "fine,\n", [], "films/train.csv: line 3 has no label in column 'label'"),
        ("text,label\n" + GOOD * 30, [], "films/test.csv: line 3: label 'blame' does not occur in the training data"),
        ("text,label\n" + GOOD + "a,b,c\n", [], "films/train.csv: line 3 has 3 fields, the header has 2"),
        (b"text,label\n" + GOOD.encode() + b"na\xefve,blame\n", [], "films/train.csv: line 3 is not UTF-8"),
        (None, ["data.tokenizer=nowhere.json"], "data.tokenizer: nowhere.json: is no file"),
        (None, ["data.tokens=2"], "data.tokens: must be at least 3"),
        (None, ["data.vocabulary=9"], "data.vocabulary: must be at least"),
        (
            None,
            ["data.vocabulary=90", "data.tokenizer=films"],
            "data.vocabulary: is for a tokenizer trained here",
        ),
        (
            None,
            ["data.name=digits", "data.tokens=null", "data.tokenizer=a.json"],
            "data.tokenizer: is for texts, digits",
        ),
        (None, ["data.name=digits", "data.tokens=null", "data.text=a"], "data.text = a does not go with digits"),
        (None, ["data.strip=quotes"], "data.strip: must be 'headers' or 'nothing', got 'quotes'"),
        (None, ["model.patch=4"], "model.patch: films has texts, which have no patches"),
        (None, ["data.name=sst2"], "sst2: looked for train.tsv and test.tsv"),
    ],
)
def test_wrong_texts_are_one_line_and_exit_code_2(config, train, sets, said, monkeypatch, capsys):
    if train is not None:
        Path("films/train.csv").write_bytes(train if isinstance(train, bytes) else train.encode())
    assert call(monkeypatch, "run", config, *(part for pair in sets for part in ("--set", pair))) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("cosp: ")
    assert said in line
    assert not Path("runs").exists()


def test_a_run_keeps_its_tokenizer_and_goes_on_with_no_other(config, monkeypatch, capsys):
    sets = ["--set", "server.checkpoint_every=1", "--set", "server.versions=2"]
    assert call(monkeypatch, "run", config, "--out", "run", "--no-report", *sets) == 0
    kept = tokenizers.Tokenizer.from_file("run/tokenizer.json")
    assert kept.encode("a good film").tokens[:6] == ["[CLS]", "a", "good", "film", "[SEP]", "[PAD]"]
    rows = [json.loads(line) for line in Path("run/rows.jsonl").read_text().splitlines()]
    assert rows[0]["classes"] == ["blame", "praise"]
    assert call(monkeypatch, "run", "--resume", "run", "--no-report") == 0
    Path("films/train.csv").write_text("text,label\n" + (GOOD + "a daft film,blame\n") * 40)
    capsys.readouterr()
    assert call(monkeypatch, "run", "--resume", "run") == 2
    assert "run/tokenizer.json: is another tokenizer than" in capsys.readouterr().err


def test_boards_are_given_the_tokenizer_and_cut_their_own_texts_alike(config, monkeypatch, capsys):
    from cosp.trainer.store import open_board_store

    assert call(monkeypatch, "store", config, "--out", "stores") == 0
    Path("own.csv").write_text("text,label\n" + GOOD * 3 + BAD * 3)
    assert call(monkeypatch, "store", config, "--own", "own.csv", "--out", "own") == 0
    texts = [Path(folder, "tokenizer.json").read_text() for folder in ("stores/0", "stores/3", "own")]
    assert len(set(texts)) == 1
    kept = tokenizers.Tokenizer.from_str(texts[0])
    for folder in ("stores/0", "own"):
        store = open_board_store(Path(folder))
        assert store.recipe.classes == ("blame", "praise")
        expected = {tuple(kept.encode(text.split(",")[0]).ids): label for text, label in ((GOOD, 1), (BAD, 0))}
        samples = store.samples.train
        found = {tuple(row): label for row, label in zip(samples.x.tolist(), samples.y.tolist(), strict=True)}
        assert found == expected


def test_own_texts_do_not_go_with_a_model_of_images(config, monkeypatch, capsys):
    Path("own.csv").write_text("text,label\n" + "x,1\ny,2\n")
    sets = ["--set", "data={name: digits}", "--set", "model.patch=4"]
    assert call(monkeypatch, "store", config, *sets, "--own", "own.csv", "--out", "own") == 2
    assert "own.csv: has texts, digits has none that a tokenizer cut into words" in capsys.readouterr().err
