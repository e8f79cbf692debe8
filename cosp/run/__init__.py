"""What every run has, wherever it runs: directory, checkpoint, opening rows, evaluation, the seam to what computes."""

from __future__ import annotations
