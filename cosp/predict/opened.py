"""A trained model, wherever it lies, as one thing that answers: a run, an export, a graph in a file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cosp.checkpoints import import_state, open_checkpoint
from cosp.checkpoints.own import FACTS, TOKENIZER, Facts, final_model, read_facts, read_state
from cosp.data.tokenizers import Tokenizer
from cosp.errors import UserError
from cosp.export import onnx, program
from cosp.export.chosen import narrow_model
from cosp.models.transformer import Transformer
from cosp.submodel.shape import layout_of
from cosp.submodel.slicing import extract

Logits = list[NDArray[np.float32]]
BATCH = 64


@dataclass(frozen=True, kw_only=True)
class Opened:
    """``answer`` gives the logits of every exit, shallow to deep, for samples that are prepared.

    ``module`` is there if cosp itself computes it: then it can leave at an exit, and what is behind is not computed.
    """

    path: Path
    facts: Facts
    answer: Callable[[NDArray[Any]], Logits]
    module: Transformer | None = None
    tokenizer: Tokenizer | None = None

    def last_exit(self, after: int | None) -> int:
        """Return the exit that answers in the end, as an index: the one behind block ``after``, else the chosen one."""
        exits = self.facts.exits
        if after is None:
            return exits.index(self.facts.chosen_exit)
        if after not in exits:
            raise UserError(
                f"--exit {after}: there is no exit behind block {after}; exits of {self.path} stand behind blocks "
                f"{', '.join(map(str, exits))}"
            )
        return exits.index(after)


def open_model(path: Path) -> Opened:
    """Return the model of a run's directory, an export's folder, a ``.onnx`` or a ``.pt2``; UserError if it is none."""
    if path.is_dir() and (path / FACTS).is_file():
        for name in (onnx.FILE, program.FILE):
            if (path / name).is_file():
                return open_model(path / name)
        if (path / "config.json").is_file():
            return _folder_of_transformers(path)
    if path.suffix == ".onnx" and path.is_file():
        session = onnx.session(path)
        facts = onnx.facts_of(session, path)
        return Opened(
            path=path, facts=facts, answer=partial(onnx.run, session), tokenizer=_tokenizer(path.parent, facts)
        )
    if path.suffix == ".pt2" and path.is_file():
        module, facts = program.load(path)
        texts = facts.reading.kind == "texts"
        return Opened(
            path=path,
            facts=facts,
            answer=lambda x: program.run(module, x, texts=texts),
            tokenizer=_tokenizer(path.parent, facts),
        )
    if path.is_dir() and (path / "config.json").is_file():
        raise UserError(f"{path}: is a model of transformers without {FACTS}, which says what it reads; give a run")
    folder = final_model(path)
    facts = read_facts(folder / FACTS)
    state = extract(read_state(folder), layout_of(facts.shape), facts.plan)
    return _computed(path, facts, state, folder)


def _folder_of_transformers(path: Path) -> Opened:
    facts = read_facts(path / FACTS)
    state = import_state(open_checkpoint(str(path)), facts.shape, facts.classes).state({})
    return _computed(path, facts, state, path)


def _computed(path: Path, facts: Facts, state: Any, folder: Path) -> Opened:
    module = narrow_model(facts, state)
    return Opened(
        path=path,
        facts=facts,
        answer=partial(_answers, module),
        module=module,
        tokenizer=_tokenizer(folder, facts),
    )


@torch.no_grad()
def _answers(module: Transformer, x: NDArray[Any]) -> Logits:
    parts = [module(torch.from_numpy(x[i : i + BATCH])) for i in range(0, len(x), BATCH)]
    return [torch.cat(list(outputs)).numpy() for outputs in zip(*parts, strict=True)]


def _tokenizer(folder: Path, facts: Facts) -> Tokenizer | None:
    path = folder / TOKENIZER
    return Tokenizer(path.read_text(encoding="utf-8")) if facts.reading.words and path.is_file() else None
