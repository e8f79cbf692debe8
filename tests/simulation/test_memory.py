"""Memory between two processes: seen by both, without a name, refused in one line where there is no room."""

from __future__ import annotations

import os
import subprocess
import sys
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
import torch

from cosp.simulation import forks
from cosp.simulation.memory import SharedFloats
from cosp.simulation.room import free_memory_bytes

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
    assert said.startswith("a worker needs 2.1 MB to exchange weights (in memory: File too large, ")
    assert "; in folder: File too large, " in said
    assert len(said.splitlines()) == 1


IN_A_SMALL_FOLDER = """
import os
from cosp.errors import UserError
from cosp.simulation import memory
memory.free_memory_bytes = lambda: 2**18
found = os.fstat(memory.reserved(2**19))
print(found.st_size, found.st_blocks * 512 >= 2**19, found.st_dev == os.stat(os.environ["TMPDIR"]).st_dev)
try:
    memory.reserved(2**21)
except UserError as error:
    print(error)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small folder, which root alone may")
def test_where_memory_has_no_room_a_file_takes_its_place_and_where_that_has_none_need_and_room_are_said(
    tmp_path: Path,
) -> None:
    mount = 'mount -t tmpfs -o size=1m tmpfs "$TMPDIR" && exec "$@"'
    words = ["unshare", "-m", "--propagation", "private", "sh", "-c", mount, "sh", sys.executable]
    done = subprocess.run(
        [*words, "-c", IN_A_SMALL_FOLDER],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    size, refusal = done.stdout.splitlines()
    assert size == f"{2**19} True True"
    assert refusal == (
        "a worker needs 2.1 MB to exchange weights (in memory: Cannot allocate memory, 262 kB free; in folder: "
        f"No space left on device, 524 kB free at {tmp_path}); use fewer --workers, or set TMPDIR to a folder with "
        "more room"
    )


def lay_out(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    return root


MACHINE = {"proc/meminfo": "MemTotal: 9000 kB\nMemAvailable: 8000 kB\n"}


def test_what_is_free_is_the_machine_s_where_no_group_limits_it(tmp_path: Path) -> None:
    groups = {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "max\n"}
    assert free_memory_bytes(lay_out(tmp_path, {**MACHINE, **groups})) == 8000 * 1024


def test_what_is_free_in_a_container_is_what_its_group_and_those_around_it_have_left(tmp_path: Path) -> None:
    inner = "sys/fs/cgroup/outer/inner"
    files = {
        **MACHINE,
        "proc/self/cgroup": "0::/outer/inner\n",
        f"{inner}/memory.max": "max\n",
        "sys/fs/cgroup/outer/memory.max": "1000000\n",
        "sys/fs/cgroup/outer/memory.current": "900000\n",
        "sys/fs/cgroup/outer/memory.stat": "anon 800000\ninactive_file 50000\n",
    }
    assert free_memory_bytes(lay_out(tmp_path, files)) == 150_000


def test_what_is_free_under_the_first_version_of_groups(tmp_path: Path) -> None:
    top = "sys/fs/cgroup/memory"
    files = {
        **MACHINE,
        "proc/self/cgroup": "5:cpu,cpuacct:/\n4:memory:/a/container\n0::/\n",  # whose path is the machine's, not ours
        f"{top}/memory.limit_in_bytes": "2000000\n",
        f"{top}/memory.usage_in_bytes": "2500000\n",
        f"{top}/memory.stat": "cache 1\ntotal_inactive_file 100000\n",
    }
    assert free_memory_bytes(lay_out(tmp_path, files)) == 0
    assert free_memory_bytes() > 0
