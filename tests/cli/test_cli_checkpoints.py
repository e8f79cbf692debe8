"""A pretrained model that cannot be read, at the command line: one line, exit code 2, nothing written, nothing run."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface as hf
import pytest
import tokenizers
import torch
import yaml
from safetensors.torch import load_file, save_file

from cosp.cli import main as cli

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "good", "bad", "film"]
CONFIG = {
    "name": "films",
    "data": {"name": "films.csv", "tokens": 6, "partition": {"kind": "iid"}},
    "fleet": "equal4",
    "model": {"pretrained": "bert"},
    "method": {"name": "fedavg"},
    "training": {"epochs": 1, "batch_size": 8},
    "server": {"versions": 1, "quorum": 0.5},
}


class Trap:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("sprung",)


def of_another_family(folder: Path) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "model_type": "mamba"}))


def without_a_tensor(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    del state["bert.encoder.layer.0.output.dense.weight"]
    save_file(state, folder / "model.safetensors")


def with_code(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save({"a": Trap()}, folder / "pytorch_model.bin")


def with_more_words(folder: Path) -> None:
    tokenizer([*WORDS, "dull"], folder)


def without_words(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def tokenizer(words: list[str], folder: Path) -> None:
    numbers = {word: number for number, word in enumerate(words)}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(numbers, unk_token="[UNK]"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.save(str(folder / "tokenizer.json"))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (of_another_family, "bert/config.json: model_type: unknown family 'mamba'; known: vit, deit, bert"),
        (without_a_tensor, "model.safetensors: bert.encoder.layer.0.output.dense.weight is missing"),
        (with_code, "bert/pytorch_model.bin: holds Python code beside tensors, which is never run"),
        (with_more_words, "data.tokenizer: has 9 words"),
        (without_words, "bert/tokenizer.json: is no file; give data.tokenizer"),
    ],
)
def test_a_model_that_cannot_be_read_is_one_line_and_exit_code_2(
    damage: Callable[[Path], None],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    tokenizer(WORDS, hf.saved(hf.classifier("bert", vocab_size=len(WORDS)), Path("bert")))
    damage(Path("bert"))
    Path("films.csv").write_text("text,label\n" + "a good film,praise\na bad film,blame\n" * 60)
    Path("films.yaml").write_text(yaml.safe_dump(CONFIG))
    monkeypatch.setattr("sys.argv", ["cosp", "run", "films.yaml"])
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        cli.main()
    (line,) = capsys.readouterr().err.splitlines()
    assert stop.value.code == 2
    assert line.startswith("cosp: ")
    assert said in line
    assert not Path("runs").exists()
    assert not Path("sprung").exists()
