"""Real deployments take minutes: they run with ``-m deploy`` only, see ``make deploy-test``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

CONFIG: dict[str, Any] = {
    "name": "boards",
    "data": {"name": "digits", "partition": {"kind": "iid"}},
    "fleet": "equal4",
    "model": {"patch": 4, "dim": 64, "blocks": 4, "heads": 4, "hidden": 256, "exits": [1, 2, 3, 4]},
    "method": {"name": "co-s2p"},
    "training": {"epochs": 3, "batch_size": 16},
    "server": {"versions": 5, "quorum": 1.0, "checkpoint_every": 1},
}
"""Four equal boards learn digits in synchronous rounds: what they learn hangs on nobody's speed."""
