"""Rows of a run directory -> one HTML page with figures."""

from __future__ import annotations

from cosp.report.page import write_report
from cosp.report.read import read_run
from cosp.report.rows import Run

__all__ = ["Run", "read_run", "write_report"]
