"""After deployment: hard samples up, the server adapts, small weight changes down."""

from __future__ import annotations
