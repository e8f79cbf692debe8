from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from half_run import Half


@pytest.fixture
def half(tmp_path: Path) -> Half:
    return Half(tmp_path / "half")


@pytest.fixture
def make_half(tmp_path: Path) -> Callable[[int], Half]:
    return lambda clients: Half(tmp_path / f"half-{clients}", clients)
