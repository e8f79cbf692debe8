from __future__ import annotations

import os
import subprocess
import sys

import psutil

from cosp.processor import processor_name, usable_cores

COUNT = "from cosp.processor import usable_cores; print(usable_cores())"


def counted(**environment: str) -> int:
    command = [sys.executable, "-c", COUNT]
    return int(subprocess.run(command, env={**os.environ, **environment}, capture_output=True, check=True).stdout)


def test_cores_that_a_process_is_kept_from_do_not_count() -> None:
    own = psutil.Process()
    before = own.cpu_affinity()
    own.cpu_affinity(before[:1])  # children inherit it
    try:
        assert counted() == 1
    finally:
        own.cpu_affinity(before)


def test_there_is_always_one_core() -> None:
    assert counted(LOKY_MAX_CPU_COUNT="0") == 1
    assert usable_cores() >= 1


def test_the_processor_has_a_name() -> None:
    assert processor_name()
