"""Real boards: keys, SuperLink and SuperNodes as processes, runs on boards, their data."""

from __future__ import annotations
