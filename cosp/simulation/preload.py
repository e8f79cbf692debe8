"""What the common parent of all workers loads, once for them all."""

from __future__ import annotations

import cosp.simulation.worker  # noqa: F401
