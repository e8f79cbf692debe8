"""Flower's own simulation of what ``peers.py`` runs: its FedAvg, its Ray backend, ClientApps that train with torch.

A module of its own, as actors import what they run.
"""

from __future__ import annotations

import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation

from cosp.experiment import Experiment
from cosp.models.transformer import Transformer, initialise
from cosp.trainer.store import open_store, write_store
from cosp.transfer import TransferSettings, exit_loss


def simulated(experiment: Experiment, folder: Path, *, rounds: int, cohort: int, actors: int) -> int:
    """Run ``rounds`` of FedAvg with ``cohort`` clients each on ``actors`` processes; return how many updates came."""
    write_store(folder, experiment.splits, experiment.rows)
    shape, settings, clients = experiment.shape, experiment.config.training, len(experiment.boards)
    module = Transformer(shape)
    initialise(module, torch.Generator().manual_seed(0))
    begin, came = module.state_dict(), []

    def train(message: Message, context: Context) -> Message:
        torch.set_num_threads(1)
        torch.set_flush_denormal(True)
        own = _store(str(folder))[int(context.node_config["partition-id"])].train
        model = Transformer(shape)
        model.load_state_dict(message.content["arrays"].to_torch_state_dict())
        optimizer = torch.optim.AdamW(
            model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
        )
        x, y = torch.from_numpy(np.asarray(own.x)), torch.from_numpy(own.y)
        for chosen in torch.randperm(len(y)).split(settings.batch_size):
            optimizer.zero_grad()
            exit_loss(model(x[chosen]), y[chosen], TransferSettings(teacher="none"), 0)[0].backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip_norm or float("inf"))
            optimizer.step()
        found = {"arrays": ArrayRecord(model.state_dict()), "metrics": MetricRecord({"num-examples": len(y)})}
        return Message(content=RecordDict(found), reply_to=message)

    client, server = ClientApp(), ServerApp()
    client.train()(train)

    class Counted(FedAvg):
        def aggregate_train(self, server_round: int, replies: Any) -> Any:
            arrived = list(replies)
            came.append(sum(not reply.has_error() for reply in arrived))
            return super().aggregate_train(server_round, arrived)

    @server.main()
    def main(grid: Grid, context: Context) -> None:
        share = cohort / clients  # of those that are connected at the first look, which are fewer: hence the minimum
        strategy = Counted(
            fraction_train=share, min_train_nodes=cohort, fraction_evaluate=0.0, min_available_nodes=clients
        )
        strategy.start(grid=grid, initial_arrays=ArrayRecord(begin), num_rounds=rounds)

    backend: Any = {
        "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
        "init_args": {"num_cpus": actors, "include_dashboard": False},
    }
    run_simulation(server, client, num_supernodes=clients, backend_config=backend)
    return sum(came)


@lru_cache(maxsize=1)
def _store(folder: str) -> Any:
    return open_store(Path(folder))[0]


if __name__ == "__main__":
    sys.exit("imported by peers.py")
