"""DepthFL (Kim et al. 2023, openreview pf8RIZTMU58): a client holds the first whole blocks, and its exits teach each
other.

Every exit follows the mean over the others of KL(exit j || exit i), at temperature 1, teachers detached. There the
weight of that term ramps up over 300 rounds; here it is on from ``transfer.warmup_versions``. FedDyn, which the
original runs on top, is left out.
"""

from __future__ import annotations

from typing import Literal

from cosp.methods.extraction import DEPTH, extracting
from cosp.methods.method import Method, Setting
from cosp.methods.rules import Sized
from cosp.submodel import selection
from cosp.transfer import TransferSettings


class DepthFL(Sized):
    name: Literal["depthfl"] = "depthfl"
    transfer: TransferSettings = TransferSettings(teacher="mutual", weight=1.0, temperature=1.0)

    def build(self, setting: Setting) -> Method:
        return extracting(self, setting, name=self.name, rule=selection.prefix, depth_share=DEPTH)
