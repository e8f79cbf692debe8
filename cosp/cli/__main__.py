"""``python -m cosp.cli`` is ``cosp``."""

from __future__ import annotations

from cosp.cli.main import main

main()
