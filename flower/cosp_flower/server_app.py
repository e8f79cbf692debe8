"""The ServerApp."""

from __future__ import annotations

from cosp.server.app import app

__all__ = ["app"]
