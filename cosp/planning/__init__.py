"""What each board would hold and what a task would cost it: ``cosp plan``."""

from __future__ import annotations
