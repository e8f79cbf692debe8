"""The memory that is predicted is the memory that a process uses, for whole tasks of real size."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROBE = Path(__file__).resolve().parents[1] / "memory_probe.py"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_whole_tasks_take_the_memory_that_is_predicted_and_no_more():
    # what glibc keeps of freed blocks is no part of a task
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "131072"}
    done = subprocess.run([sys.executable, str(PROBE)], env=environment, capture_output=True, text=True, check=True)
    for name, (predicted, used) in json.loads(done.stdout).items():
        assert predicted == pytest.approx(used, rel=0.1), name
