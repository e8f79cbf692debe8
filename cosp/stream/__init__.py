"""Boards, simulated or real, serve a stream of samples, send up what tells most, and are adapted to it."""

from __future__ import annotations
