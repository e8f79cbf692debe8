"""The edge to Flower: the ServerApp and the ClientApp, and what each does where it runs."""

from __future__ import annotations
