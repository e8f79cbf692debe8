"""Boards serve a stream of samples in virtual time, send up what tells most, and are adapted to it: ``cosp adapt``."""

from __future__ import annotations
