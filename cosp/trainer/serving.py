"""The process that answers with a finished model until it is told to end."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Optional

import torch

from cosp.trainer.answering import Answering
from cosp.trainer.finished import read_finished
from cosp.trainer.http_door import HERE, door
from cosp.trainer.power import find_power_meter


def serve_model(
    path: Path,
    *,
    board: Optional[int],
    last: Optional[int],
    confident: Optional[float],
    port: int,
    threads: Optional[int],
) -> None:
    """Answer at ``port`` of this machine with the model at ``path``, or client ``board``'s submodel of it."""
    if threads is not None:
        torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    answering = Answering(read_finished(path, board), last=last, confident=confident, meter=find_power_meter())
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    with door(answering, port) as server:
        print(f"http://{HERE}:{server.server_address[1]}/", flush=True)
        server.serve_forever()
