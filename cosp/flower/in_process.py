"""The ClientApp's work where it has torch itself, as in Flower's simulation: unpack, train here, pack what was found.

A client is the board ``partition-id`` of the experiment's fleet. Nothing is kept between messages but the experiment.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from flwr.app import Context, Message

from cosp.errors import ConfigError, CospError
from cosp.experiment import Experiment, single_thread
from cosp.flower.run_config import experiment_from, source_of
from cosp.trainer.power import find_power_meter
from cosp.trainer.samples import ClientSamples, Samples
from cosp.trainer.trainer import Trainer
from cosp.wire import messages as wire
from cosp.wire import records


def introduce(message: Message, context: Context) -> Message:
    """Say who this client is. What a machine draws while it waits is not measured, so it names none."""
    experiment, client = _place(context)
    told = experiment.introduction(client)
    own = replace(told, idle_w=0.0, gpu=torch.cuda.is_available(), keeps_frozen=False)
    return records.introduction_reply(message, own)


def work(message: Message, context: Context) -> Message:
    """Do the task of an instruction: train a submodel, or score the units of one."""
    experiment, client = _place(context)
    task = wire.read_task(message)
    if task.client != client:
        raise CospError(f"client {client} was sent the task of client {task.client}")
    single_thread()
    torch.set_flush_denormal(True)
    weights = torch.empty(task.parameters)
    wire.weights_into(message, task, weights)
    trainer = Trainer({client: _samples(experiment, client)}, {}, find_power_meter(), secretive=True)
    facts, vector = trainer.run(task, weights)
    return wire.result_reply(message, facts, vector)


def serve(message: Message, context: Context) -> Message:
    """Refuse: here are shares of the experiment's data, and nothing that somebody gave to be sent."""
    raise CospError(
        "a node without a trainer serves no stream: samples leave the board, so its owner gives one to its trainer, "
        "cosp trainer --stream"
    )


def _place(context: Context) -> tuple[Experiment, int]:
    """Return the experiment and which of its clients this node is."""
    experiment = experiment_from(source_of(context.run_config))
    boards, node = len(experiment.boards), context.node_config
    nodes = node.get("num-partitions", boards)
    if nodes != boards:
        raise ConfigError(f"{nodes} nodes take part, the fleet has {boards} boards; set num-supernodes={boards}")
    client = node.get("partition-id")
    if not isinstance(client, int) or not 0 <= client < boards:
        raise ConfigError(f"node config: partition-id: must be in 0..{boards - 1}, the fleet's boards, got {client}")
    return experiment, client


def _samples(experiment: Experiment, client: int) -> ClientSamples:
    split = experiment.splits["train"]
    train, test = (Samples(split.x[rows], split.y[rows]) for rows in experiment.rows[client])
    return ClientSamples(train, test)
