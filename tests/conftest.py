"""For all tests: one torch thread, and property tests that try the same examples everywhere."""

from __future__ import annotations

import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)
torch.set_warn_always(True)  # else a warning fails whichever test comes first, and hides the others
settings.register_profile("cosp", deadline=None, derandomize=True)
settings.load_profile("cosp")


@pytest.fixture(autouse=True)
def _subnormal_floats() -> None:
    """A trainer in this process flushes them to zero from then on, which Hypothesis refuses to work with."""
    torch.set_flush_denormal(False)
