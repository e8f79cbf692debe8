"""Trained models at work: from a run or an export, and raw inputs, to classes."""

from __future__ import annotations
