"""The Flower app's two entry points; everything else is in cosp."""

from __future__ import annotations
