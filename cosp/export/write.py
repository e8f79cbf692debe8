"""One export from end to end: choose, write, check, say so in a card."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from cosp.checkpoints import import_state, open_checkpoint
from cosp.checkpoints.own import FACTS, TOKENIZER, Facts, final_model, read_boards, read_facts
from cosp.checkpoints.sentences import STEPS
from cosp.errors import UserError
from cosp.export import hf, onnx, program, sentences
from cosp.export.card import card
from cosp.export.check import Answers, Trial, checked, measured_accuracy, reference, trial_of
from cosp.export.chosen import Chosen, choose, narrow_model

Kind = Literal["hf", "onnx", "torch"]
Arrays = list[NDArray[np.float32]]


@dataclass(frozen=True, kw_only=True)
class Written:
    """``files`` that an export consists of, what it reads and answers, and what was checked."""

    folder: Path
    files: tuple[str, ...]
    signature: str
    checks: tuple[str, ...]


def export(
    run: Path,
    folder: Path,
    *,
    kind: Kind,
    after: int | None = None,
    board: int | None = None,
    batch: int | None = None,
    data_dir: Path | None = None,
    command: str = "",
) -> Written:
    """Write a run's model as ``folder``, which must not be there or be empty; nothing is left if a check fails.

    UserError if the model cannot be expressed so; ExportDiffers if what was written says something else than the run.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"--out {folder}: is there already, and not empty; give another")
    if batch is not None and kind == "hf":
        raise UserError("--batch: is for onnx and torch; a folder for transformers has no size of batches")
    chosen = choose(run, after=after, board=board, one_exit=kind == "hf")
    if kind == "hf":
        hf.family_of(chosen)  # before the data are read
    trial = trial_of(chosen, data_dir)
    fresh = folder.with_name(f".{folder.name}.fresh")
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        fresh.mkdir(parents=True)
        found = _write(chosen, fresh, kind=kind, batch=batch, trial=trial, command=command)
        if folder.exists():
            folder.rmdir()
        fresh.rename(folder)
    except OSError as error:
        raise UserError(f"--out {folder}: cannot be written ({error.strerror})") from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return replace(found, folder=folder)


def _write(chosen: Chosen, folder: Path, *, kind: Kind, batch: int | None, trial: Trial, command: str) -> Written:
    facts = replace(_held(chosen, kind), exported={"to": kind, "board": chosen.board, "client": chosen.client})
    tokenizer = tokenizer_folder(chosen.run)
    sample = torch.from_numpy(trial.x[:2])
    sample = sample.long() if facts.reading.kind == "texts" else sample
    if kind == "hf":
        signature = hf.write(chosen, folder, tokenizer=tokenizer)
    elif kind == "onnx":
        signature = onnx.write(chosen, facts, folder, batch=batch, sample=sample)
    else:
        signature = program.write(chosen, facts, folder, batch=batch, sample=sample)
    if kind != "hf" and tokenizer is not None and (tokenizer / TOKENIZER).is_file():
        shutil.copyfile(tokenizer / TOKENIZER, folder / TOKENIZER)
    (folder / FACTS).write_text(json.dumps(facts.as_json(), indent=1) + "\n", encoding="utf-8")
    checks = _checks(chosen, folder, kind, trial)
    measured = None
    if chosen.client is not None and trial.test is not None:
        measured = measured_accuracy(chosen, trial.test)
    text = card(
        chosen,
        kind=kind,
        command=command,
        signature=signature,
        checks=checks,
        measured=measured,
        boards=boards_of(chosen.run),
    )
    (folder / "README.md").write_text(text, encoding="utf-8")
    written = sorted(path for path in folder.rglob("*") if path.is_file())
    for path in written:
        path.chmod(0o644)
    files = tuple(str(path.relative_to(folder)) for path in written)
    return Written(folder=folder, files=files, signature=signature, checks=tuple(checks))


def _held(chosen: Chosen, kind: Kind) -> Facts:
    return hf.whole(chosen).facts if kind == "hf" else chosen.facts


def tokenizer_folder(run: Path) -> Path | None:
    """Return the folder that holds the tokenizer of a run's texts; None if it is not known."""
    folder = final_model(run)
    return folder if (folder / TOKENIZER).is_file() else None


def boards_of(run: Path) -> list[str]:
    """Return a line for each kind of board that the run trained on."""
    folder = final_model(run)
    boards = read_boards(folder, read_facts(folder / FACTS).shape)
    return [f"- {count} x {name}" for name, count in Counter(board.board for board in boards.values()).items()]


def _checks(chosen: Chosen, folder: Path, kind: Kind, trial: Trial) -> list[str]:
    wanted = reference(chosen, trial.x)
    if kind == "torch":
        found, _ = program.load(folder / program.FILE)
        texts = chosen.facts.reading.kind == "texts"
        ways = {
            "torch": partial(program.run, found, texts=texts),
            "TorchScript": partial(program.run_script, folder / program.SCRIPT, texts=texts),
        }
        return [checked(wanted, ours, trial.x, who=who, said=trial.said) for who, ours in ways.items()]
    if kind == "onnx":
        if find_spec("onnxruntime") is None:
            raise UserError(f"--to onnx: is checked in onnxruntime, which is missing: {onnx.ADVICE}")
        running = onnx.session(folder / onnx.FILE)
        return [checked(wanted, lambda x: onnx.run(running, x), trial.x, who="onnxruntime", said=trial.said)]
    back = checked(wanted, lambda x: _read_back(folder, chosen, x), trial.x, who="read back by cosp", said=trial.said)
    if find_spec("transformers") is None:
        return [back, "not checked in transformers, which is not installed here"]
    with _quiet_transformers():
        theirs = [
            checked(wanted, answers, trial.x, who=who, said=trial.said)
            for who, answers in _theirs(folder, chosen).items()
        ]
    return [back, *theirs]


def _read_back(folder: Path, chosen: Chosen, x: NDArray[Any]) -> Arrays:
    """Return what the folder's model answers when another run begins with it."""
    facts = hf.whole(chosen).facts
    checkpoint = open_checkpoint(str(folder))
    state = import_state(checkpoint, facts.shape, facts.classes).state({})
    with torch.no_grad():
        return [z.numpy() for z in narrow_model(facts, state)(torch.from_numpy(x))]


@contextlib.contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Keep transformers from showing its progress, and from telling of a pooler that nothing reads."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        logging.set_verbosity(before)


def _theirs(folder: Path, chosen: Chosen) -> dict[str, Answers]:
    """Return who else computes the folder's model here."""
    if not (folder / STEPS).is_file():
        return {"transformers": lambda x: _in_transformers(folder, chosen, x)}
    padding = chosen.facts.shape.padding
    found: dict[str, Answers] = {"transformers": lambda x: [sentences.in_transformers(folder, x, padding).numpy()]}
    if find_spec("sentence_transformers") is not None and (folder / TOKENIZER).is_file():  # it loads none without
        found["sentence-transformers"] = lambda x: [sentences.in_sentence_transformers(folder, x, padding).numpy()]
    return found


@torch.no_grad()
def _in_transformers(folder: Path, chosen: Chosen, x: NDArray[Any]) -> Arrays:
    import transformers

    found = torch.from_numpy(x)
    if chosen.facts.reading.kind == "images":
        model = transformers.AutoModelForImageClassification.from_pretrained(folder)
        inputs = {"pixel_values": found}
    else:
        model = transformers.AutoModelForSequenceClassification.from_pretrained(folder)
        padding = chosen.facts.shape.padding
        there = torch.ones_like(found) if padding is None else (found != padding).long()
        inputs = {"input_ids": found.long(), "attention_mask": there.long()}
    return [model.eval()(**inputs).logits.numpy()]
