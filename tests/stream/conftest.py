"""One run for all tests of streams."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_stream import trained_run


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained_run(tmp_path_factory.mktemp("trained") / "run")
