from __future__ import annotations

import sys
from multiprocessing.connection import Connection

from cosp.simulation import forks


def tell_modules(pipe: Connection) -> None:
    pipe.send(sorted(sys.modules))


def test_a_fork_finds_loaded_what_a_worker_needs() -> None:
    forks.start()
    context = forks.context()
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=tell_modules, args=(theirs,))
    process.start()
    theirs.close()
    loaded = ours.recv()
    process.join()
    assert {"cosp.simulation.worker", "torch.optim"} <= set(loaded)
