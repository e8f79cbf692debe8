"""RA-Fed (Zhou et al. 2023, arXiv:2310.08670): windows that never move, staggered so that clients cover all units.

Client n of N starts at unit floor(n K / N) of K. The correction that makes it RAM-Fed is not published and not here.
"""

from __future__ import annotations

from typing import Literal

from cosp.methods.extraction import extracting
from cosp.methods.method import Method, Setting
from cosp.methods.rules import Sized
from cosp.submodel import selection


class RAFed(Sized):
    name: Literal["ra-fed"] = "ra-fed"

    def build(self, setting: Setting) -> Method:
        return extracting(self, setting, name=self.name, rule=selection.staggered)
