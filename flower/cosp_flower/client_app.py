"""The ClientApp."""

from __future__ import annotations

from cosp.client.app import app

__all__ = ["app"]
