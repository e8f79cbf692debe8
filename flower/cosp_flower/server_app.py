"""The ServerApp."""

from __future__ import annotations

from cosp.flower.server_app import app

__all__ = ["app"]
