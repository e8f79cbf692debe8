"""Do boards, model and stream fit each other? What does not is one line."""

from __future__ import annotations

from collections.abc import Sequence

from cosp.amounts import amount
from cosp.errors import ConfigError
from cosp.fleet.fleet import Fleet, load_fleet
from cosp.stream.deployed import Deployed
from cosp.stream.settings import AdaptConfig
from cosp.stream.uploads import post_of
from cosp.submodel.plan import SubmodelPlan
from cosp.task.demand import peak_memory_bytes
from cosp.task.task import Task
from cosp.task.training import TrainSettings

SPLIT = "train"
"""What a store calls the samples of a stream: it must have such a split."""


def serving_task(config: AdaptConfig, deployed: Deployed, client: int, plan: SubmodelPlan, *, samples: int) -> Task:
    """Return the task of answering ``samples``."""
    return Task(
        "serve", client, 0, 0, config.seed, deployed.facts.shape, plan,
        training=TrainSettings(batch_size=config.stream.batch), split=SPLIT, first=0, last=samples,
    )  # fmt: skip


def fitting_fleet(config: AdaptConfig, deployed: Deployed) -> Fleet:
    """Return the boards that serve; ConfigError names the first thing that does not go together."""
    if config.fleet is None:
        fleet = deployed.experiment.fleet
    else:
        try:
            fleet = load_fleet(config.fleet)
        except ConfigError as error:
            raise ConfigError(f"fleet: {error}") from error
    _check_clients(config, deployed, fleet)
    _check_memory(config, deployed, fleet)
    _check_budget(config, deployed)
    _check_tokens(config, deployed)
    return fleet


def _check_clients(config: AdaptConfig, deployed: Deployed, fleet: Fleet) -> None:
    boards, last = len(fleet.boards), max(deployed.plans)
    if last >= boards:
        raise ConfigError(
            f"fleet: has {boards} boards, and client {last} of {deployed.path} holds a submodel: give a fleet of at "
            f"least {last + 1}, or leave the key out for the run's own"
        )
    canaries = config.trial.canaries if config.trial is not None else 0
    listed = [client for named in config.sets for client in named] if isinstance(config.sets, tuple) else None
    named: dict[str, Sequence[int]] = {
        "stream.boards": [client for entry in config.stream.boards for client in entry.clients],
        "trial.canaries": [] if isinstance(canaries, int) else canaries,
        "sets": listed or [],
    }
    for key, clients in named.items():
        for client in clients:
            if client not in deployed.plans:
                raise ConfigError(
                    f"{key}: client {client} holds no submodel of {deployed.path}; those that do: "
                    f"{', '.join(map(str, sorted(deployed.plans)))}"
                )
    if listed is not None and sorted(listed) != sorted(deployed.plans):
        wrong = next(client for client in sorted(deployed.plans) if listed.count(client) != 1)
        raise ConfigError(f"sets: client {wrong} is in {listed.count(wrong)} of them, and must be in one")


def _check_memory(config: AdaptConfig, deployed: Deployed, fleet: Fleet) -> None:
    for client, plan in deployed.plans.items():
        board = fleet.boards[client]
        need_bytes = peak_memory_bytes(serving_task(config, deployed, client, plan, samples=1))
        if need_bytes > board.profile.memory_bytes:
            raise ConfigError(
                f"stream: client {client} ({board.profile.name}) needs {amount(need_bytes, 'bytes')} to answer, and "
                f"has {amount(board.profile.memory_bytes, 'bytes')}: lower stream.batch, or give a bigger board"
            )


def _check_budget(config: AdaptConfig, deployed: Deployed) -> None:
    """A budget that holds no sample would send none without a word."""
    try:
        config.upload.check_budget(post_of(config.upload, deployed.facts.reading, deployed.facts.shape).sample_bytes)
    except ValueError as error:
        raise ConfigError(f"upload.{error}") from None


def _check_tokens(config: AdaptConfig, deployed: Deployed) -> None:
    tokens = config.upload.tokens
    if tokens.how is None:
        return
    shallowest, kind = min(plan.depth for plan in deployed.plans.values()), deployed.facts.reading.kind
    if tokens.after > shallowest:
        raise ConfigError(
            f"upload.tokens.after: {tokens.after}, and a board holds {shallowest} blocks alone: it must be at most that"
        )
    last = deployed.facts.shape.exits[-1]
    if tokens.after >= last:
        raise ConfigError(f"upload.tokens.after: {tokens.after}, and no exit stands behind that: the last is {last}'s")
    if kind != "images":
        raise ConfigError(f"upload.tokens: {kind} travel as their numbers, tokens are of images; leave the key out")
