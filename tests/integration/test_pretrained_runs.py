"""Every method goes on training pretrained models, for two versions: each one family, Co-S2P and slow tests all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface as hf
import numpy as np
import pytest
import torch
from test_every_method import METHODS, Go, final_model, go, named  # noqa: F401 - a fixture

from cosp.cli import main as cli

pytestmark = pytest.mark.integration


@pytest.fixture(scope="session")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder of random weights of each family."""
    return {
        family: hf.saved(hf.classifier(family), tmp_path_factory.mktemp(family) / "model") for family in hf.FAMILIES
    }


@pytest.fixture(scope="session")
def texts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Labelled texts of each family, some ending in padding."""
    rng, found = np.random.default_rng(0), {}
    for family, padding in hf.PADDING.items():
        x = rng.integers(3, hf.WORDS, (200, 6))
        x[np.arange(6) >= rng.integers(1, 7, (200, 1))] = padding
        found[family] = tmp_path_factory.mktemp(family) / "texts.npz"
        np.savez(found[family], x=x, y=np.arange(200) % 3)
    return found


def overrides(family: str, pretrained: dict[str, Path], texts: dict[str, Path]) -> list[str]:
    model = f"model={{pretrained: {pretrained[family]}}}"
    return [model, f"data={{name: {texts[family]}, partition: {{kind: iid}}}}"] if family in texts else [model]


PAIRS = [
    pytest.param(
        family,
        name,
        marks=[] if name == "co-s2p" or hf.FAMILIES[number % len(hf.FAMILIES)] == family else pytest.mark.slow,
    )
    for number, name in enumerate(METHODS)
    for family in hf.FAMILIES
]


@pytest.mark.parametrize(("family", "name"), PAIRS)
def test_a_method_trains_a_family(
    go: Go,  # noqa: F811
    pretrained: dict[str, Path],
    texts: dict[str, Path],
    family: str,
    name: str,
):
    experiment, directory, metrics = go(*overrides(family, pretrained, texts), *named(name))
    assert (metrics["rounds"], metrics["refused"]) == (2, {})
    before, after = experiment.initial_model(), final_model(directory)
    assert all(bool(torch.isfinite(tensor).all()) for tensor in after.values())
    assert any(not torch.equal(after[tensor], before[tensor]) for tensor in before)


def test_texts_are_cut_by_the_pretrained_models_own_tokenizer(start: Callable[..., Any], tmp_path: Path):
    library = pytest.importorskip("tokenizers", reason="needs the extra text")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "good", "bad", "film"]
    folder = hf.saved(hf.classifier("bert", vocab_size=len(words)), tmp_path / "bert")
    numbers = {word: number for number, word in enumerate(words)}
    tokenizer = library.Tokenizer(library.models.WordLevel(numbers, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = library.pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    rows = [f"a {word} film,{word}" if i % 3 else f"{word},{word}" for i in range(60) for word in ("good", "bad")]
    (tmp_path / "films.csv").write_text("\n".join(["text,label", *rows]) + "\n", encoding="utf-8")
    data = f"data={{name: {tmp_path / 'films.csv'}, tokens: 6, partition: {{kind: iid}}}}"
    experiment, _ = start(f"model={{pretrained: {folder}}}", data)
    assert (experiment.dataset.padding, experiment.shape.padding, experiment.shape.length) == (0, 0, 6)
    assert experiment.shape.vocabulary == len(words)
    assert experiment.imported.checkpoint.architecture.family == "bert"


def test_a_run_says_what_it_begins_with(
    start: Callable[..., Any],
    pretrained: dict[str, Path],
    texts: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
):
    start(*overrides("roberta", pretrained, texts), out="made")
    monkeypatch.setattr("sys.argv", ["cosp", "run", str(tmp_path / "made" / "config.yaml"), "--dry", "--out", "again"])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        cli.main()
    said = capsys.readouterr().err
    assert not stop.value.code
    assert "roberta, 2 blocks, width 16, 2 heads, hidden 24, read by its first token" in said
    assert "loaded" in said
    assert "head after block 1" in said
    assert "positions: the first 6 of 14" in said


def test_a_run_begins_as_the_pretrained_model(
    start: Callable[..., Any], pretrained: dict[str, Path], texts: dict[str, Path]
):
    experiment, _ = start(*overrides("bert", pretrained, texts))
    theirs, ours = hf.classifier("bert").state_dict(), experiment.initial_model()
    assert torch.equal(ours["inputs.weight"], theirs["bert.embeddings.word_embeddings.weight"])
    assert torch.equal(ours["exits.0.pooler.weight"], theirs["bert.pooler.dense.weight"])
    assert torch.equal(ours["exits.1.head.weight"], theirs["classifier.weight"])
    assert not torch.equal(ours["exits.0.head.weight"], theirs["classifier.weight"])
    assert all(torch.equal(tensor, ours[name]) for name, tensor in experiment.initial_model().items())
