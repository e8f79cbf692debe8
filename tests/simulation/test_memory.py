"""Memory between two processes: seen by both, without a name, refused in one line where there is no room."""

from __future__ import annotations

import subprocess
import sys
from multiprocessing.connection import Connection

import torch

from cosp.simulation import forks
from cosp.simulation.memory import SharedFloats

LIMITED = """
import resource
from cosp.errors import UserError
from cosp.simulation.memory import reserved
resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))
try:
    reserved(2**21)
except UserError as error:
    print(error)
"""


def double(pipe: Connection, memory: SharedFloats) -> None:
    memory.vector.mul_(2)
    pipe.send("done")


def test_both_processes_see_what_either_writes() -> None:
    context = forks.context()
    memory = SharedFloats(3)
    memory.vector.copy_(torch.tensor([1.0, 2.0, 3.0]))
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=double, args=(theirs, memory))
    process.start()
    memory.sent()
    theirs.close()
    assert ours.recv() == "done"
    process.join()
    assert memory.vector.tolist() == [2.0, 4.0, 6.0]


def test_no_room_is_one_line() -> None:
    said = subprocess.run([sys.executable, "-c", LIMITED], capture_output=True, text=True, check=True).stdout
    assert said.startswith("a worker needs 2.1 MB to exchange weights (in memory: File too large, in folder: File too ")
    assert len(said.splitlines()) == 1
