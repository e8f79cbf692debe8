"""Fleets of named keep ratios for methods to be built on, and the plans that a method gives their clients."""

from __future__ import annotations

from cosp.fleet.introduction import Introduction
from cosp.methods import Method, Setting
from cosp.methods.clients import ClientRecord
from cosp.models.vit import ViTShape
from cosp.submodel.plan import SubmodelPlan
from cosp.task.training import TrainSettings

MODEL = ViTShape(image=28, patch=7, channels=1, classes=10, dim=64, blocks=4, heads=4, hidden=256, exits=(1, 2, 3, 4))


def introduction(client: int, keep: float | None = 0.5, memory_bytes: int = 10**9) -> Introduction:
    return Introduction(
        client=client, board="nano", link="wifi", keep=keep, memory_bytes=memory_bytes, samples=100, test_samples=10,
        class_counts=(100,),
    )  # fmt: skip


def setting(*keeps: float | None, model: ViTShape = MODEL, seed: int = 1) -> Setting:
    clients = tuple(introduction(client, keep) for client, keep in enumerate(keeps))
    return Setting(model=model, training=TrainSettings(), seed=seed, clients=clients)


def record(client: Introduction, *, turn: int = 0, version: int = 0) -> ClientRecord:
    return ClientRecord(introduction=client, dispatches=turn, version=version)


def plan_of(method: Method, client: Introduction, *, turn: int = 0, version: int = 0) -> SubmodelPlan:
    return method.submodels.plan(record(client, turn=turn, version=version))
