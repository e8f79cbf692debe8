"""What a stream ends with: the adapted models on the disk, each in the form of every run's final model.

``RUN/model`` is the last good set. Where boards have several, each is ``RUN/model-VERSION``; one that is still on trial
when the stream ends is ``RUN/trial-VERSION``. Weights are the server's, float32: what a board holds are halves of them,
or what changes of few bits brought it near to them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cosp.checkpoints.own import MODEL, TOKENIZER, BoardPlan, final_model
from cosp.fleet.fleet import Fleet
from cosp.run.directory import TRAINED, RunDirectory, trained_config_of, versions
from cosp.run.evaluation import Start, counter
from cosp.run.final import put_model, scores_of
from cosp.server.evaluation import evaluate
from cosp.stream.deployed import Deployed
from cosp.stream.server import InUse
from cosp.stream.settings import AdaptConfig

Row = dict[str, Any]


def write_models(
    directory: RunDirectory,
    config: AdaptConfig,
    deployed: Deployed,
    fleet: Fleet,
    sets: Sequence[InUse],
    *,
    evaluate_with: Start,
) -> list[Row]:
    """Write the models of ``sets``, judged on the clean data of the run that trained them; return what is where."""
    trained = trained_config_of(deployed.path).read_text(encoding="utf-8")
    several = sum(not one.on_trial for one in sets) > 1
    told = []
    with directory.writing():
        (directory.folder / TRAINED).write_text(trained, encoding="utf-8")
        for one in sets:
            folder = _folder(directory, one, several=several)
            _write(folder, config, deployed, fleet, one, evaluate_with=evaluate_with)
            told.append(
                {
                    "folder": folder.name,
                    "version": one.published.version,
                    "clients": list(one.clients),
                    "on_trial": one.on_trial,
                }
            )
    return told


def _folder(directory: RunDirectory, one: InUse, *, several: bool) -> Path:
    if one.on_trial:
        return directory.folder / f"trial-{one.published.version}"
    return directory.folder / f"{MODEL}-{one.published.version}" if several else directory.model


def _write(
    folder: Path, config: AdaptConfig, deployed: Deployed, fleet: Fleet, one: InUse, *, evaluate_with: Start
) -> None:
    facts, samples = deployed.facts, deployed.experiment.splits
    count = counter(evaluate_with, facts.shape, facts.plan, {name: len(split.y) for name, split in samples.items()})
    scores = scores_of(facts.exits, evaluate(one.published.model, count))
    words = final_model(deployed.path) / TOKENIZER
    put_model(
        folder,
        replace(
            facts,
            name=config.label,
            seed=config.seed,
            adapted=one.published.version,
            scores=scores,  # the exit that boards answer with stays the chosen one
            versions=versions(),
        ),
        one.published.model,
        [
            BoardPlan(client=client, board=fleet.boards[client].profile.name, plan=deployed.plans[client])
            for client in one.clients
        ],
        tokenizer=words.read_text(encoding="utf-8") if words.is_file() else None,
    )


def where_text(folder: Path, models: Sequence[Row]) -> str:
    """Say in words where the models are, and whose."""
    goods = [one for one in models if not one["on_trial"]]
    shown = [
        str(folder / one["folder"]) + (f" (clients {_listed(one['clients'])})" if len(goods) > 1 else "")
        for one in goods
    ]
    tried = [f"{folder / one['folder']} (on trial)" for one in models if one["on_trial"]]
    return ", ".join([*shown[:MOST_NAMED], *(["..."] if len(shown) > MOST_NAMED else []), *tried])


MOST_NAMED = 8


def _listed(clients: Sequence[int]) -> str:
    return ", ".join(map(str, clients[:MOST_NAMED])) + (", ..." if len(clients) > MOST_NAMED else "")
