"""What this machine is: which of the known boards, what it has, how its profile gets better."""

from __future__ import annotations
