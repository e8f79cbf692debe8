"""The ClientApp."""

from __future__ import annotations

from cosp.flower.client_app import app

__all__ = ["app"]
