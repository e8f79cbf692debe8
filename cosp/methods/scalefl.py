"""ScaleFL (Ilhan et al. 2023, CVPR): the first blocks and the first units of each, exits that follow the deepest.

The i-th exit's loss counts i times; the shallow ones learn from the deepest, detached, at temperature 3. There a
searched table says how deep and how wide each level is, and KL replaces a part of the cross-entropy from a quarter of
the rounds on; here width and depth shrink alike, and KL is added from ``transfer.warmup_versions`` on.
"""

from __future__ import annotations

from typing import Literal

from cosp.methods.extraction import BOTH, extracting
from cosp.methods.method import Method, Setting
from cosp.methods.rules import Sized
from cosp.submodel import selection
from cosp.transfer import TransferSettings


class ScaleFL(Sized):
    name: Literal["scalefl"] = "scalefl"
    transfer: TransferSettings = TransferSettings(teacher="deepest", weight=0.2, depth_weighted=True)

    def build(self, setting: Setting) -> Method:
        return extracting(self, setting, name=self.name, rule=selection.prefix, depth_share=BOTH)
