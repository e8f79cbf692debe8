"""For all tests: one torch thread, and property tests that try the same examples everywhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from hypothesis import settings

torch.set_num_threads(1)
torch.set_warn_always(True)  # else a warning fails whichever test comes first, and hides the others
settings.register_profile("cosp", deadline=None, derandomize=True)
settings.load_profile("cosp")


@pytest.fixture(autouse=True)
def _subnormal_floats() -> None:
    """A trainer in this process flushes them to zero from then on, which Hypothesis refuses to work with."""
    torch.set_flush_denormal(False)


BOARDS = Path(__file__).parent / "board" / "boards"


@pytest.fixture
def board_root(tmp_path: Path) -> Callable[[str], Path]:
    """Lay out the files of a board of ``tests/board/boards``; returns where its file system begins."""

    def lay_out(name: str) -> Path:
        for path, text in yaml.safe_load((BOARDS / f"{name}.yaml").read_text(encoding="utf-8")).items():
            file = tmp_path / name / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        return tmp_path / name

    return lay_out
