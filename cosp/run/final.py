"""The model that a run ends with, ``RUN/model``: the whole global model as it is served, and what using it takes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from safetensors.torch import save_file

from cosp.checkpoints.own import BOARDS, FACTS, TOKENIZER, WEIGHTS, BoardPlan, ExitScores, Facts, Reading, boards_json
from cosp.config import DataConfig
from cosp.data import Dataset
from cosp.experiment import Experiment
from cosp.methods import Method
from cosp.run.recipe import white_of
from cosp.server.coordinator import Coordinator
from cosp.server.evaluation import Evaluation
from cosp.submodel import low_rank
from cosp.submodel.plan import SubmodelPlan
from cosp.submodel.slicing import State

COLUMNS = ("image", "label", "text", "text_pair", "columns", "strip")


def write_model(
    folder: Path, experiment: Experiment, coordinator: Coordinator, evaluation: Evaluation, versions: Mapping[str, str]
) -> None:
    """Write what ``coordinator`` holds as ``folder``, whole or not at all; another one there is replaced.

    Adapters are folded into the weights beside them: whoever uses the model needs to know of none.
    """
    method = coordinator.method
    facts = _facts(experiment, method, coordinator.version, evaluation, versions)
    state, shape = low_rank.folded(method.model.served(coordinator.model), experiment.shape)
    facts = replace(facts, shape=shape, plan=low_rank.without_ranks(facts.plan))
    tokenizer = experiment.dataset.tokenizer
    put_model(folder, facts, state, _boards(coordinator), tokenizer=None if tokenizer is None else tokenizer.text)


def put_model(folder: Path, facts: Facts, state: State, boards: Sequence[BoardPlan], *, tokenizer: str | None) -> None:
    """Write a model as ``folder``, whole or not at all; another one there is replaced."""
    fresh, old = (folder.with_name(f".{folder.name}.{what}") for what in ("fresh", "old"))
    for rest in (fresh, old):  # of a process that was killed here
        shutil.rmtree(rest, ignore_errors=True)
    fresh.mkdir()
    save_file(_separate(state), fresh / WEIGHTS, {"format": "pt"})
    (fresh / BOARDS).write_text(boards_json(boards, facts.shape), encoding="utf-8")
    if tokenizer is not None:
        (fresh / TOKENIZER).write_text(tokenizer, encoding="utf-8")
    (fresh / FACTS).write_text(json.dumps(facts.as_json(), indent=1) + "\n", encoding="utf-8")
    if folder.exists():
        folder.rename(old)
    fresh.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def _facts(
    experiment: Experiment, method: Method, version: int, evaluation: Evaluation, versions: Mapping[str, str]
) -> Facts:
    config, dataset, shape = experiment.config, experiment.dataset, experiment.shape
    plan = method.model.evaluated
    exits = shape.exits_within(plan.depth)
    return Facts(
        name=config.label,
        method=method.name,
        seed=config.seed,
        version=version,
        data=dataset.name,
        samples={name: len(getattr(dataset, name)) for name in ("train", "validation", "test")},
        shape=shape,
        plan=plan,
        classes=dataset.classes,
        chosen_exit=exits[evaluation.chosen_exit],
        scores=scores_of(exits, evaluation),
        reading=reading_of(dataset, config.data),
        likeness=None if experiment.imported is None else experiment.imported.checkpoint.likeness,
        versions=versions,
    )


def scores_of(exits: Sequence[int], evaluation: Evaluation) -> tuple[ExitScores, ...]:
    """Return what is known of ``exits``, each named by the block that it stands behind."""
    return tuple(
        ExitScores(
            after=after,
            accuracy=evaluation.accuracy[i],
            macro_f1=evaluation.macro_f1[i],
            loss=evaluation.loss[i],
            validation_accuracy=evaluation.validation_accuracy[i],
        )
        for i, after in enumerate(exits)
    )


def reading_of(dataset: Dataset, data: DataConfig) -> Reading:
    """Return how raw samples become those of ``dataset``, which was read as ``data`` says."""
    said = data.model_dump(mode="json", include=set(COLUMNS), exclude_none=True)
    return Reading(
        kind=dataset.kind,
        mean=dataset.mean,
        std=dataset.std,
        white=white_of(dataset) if dataset.kind == "images" else None,
        words=dataset.tokenizer is not None,
        columns=said,
    )


def _boards(coordinator: Coordinator) -> list[BoardPlan]:
    return [
        BoardPlan(client=client, board=record.introduction.board, plan=_folded(coordinator.plan_of(client)))
        for client, record in sorted(coordinator.records.items())
    ]


def _folded(plan: SubmodelPlan | None) -> SubmodelPlan | None:
    return None if plan is None else low_rank.without_ranks(plan)


def _separate(state: State) -> State:
    """Return tensors that share no memory, which safetensors refuses."""
    return {name: tensor.detach().clone().contiguous() for name, tensor in state.items()}
