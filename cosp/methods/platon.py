"""PLATON (Zhang et al. 2022, arXiv:2206.12562) in federation: weights are pruned by sensitivity times uncertainty.

Each client prunes towards its own share, on the cubic schedule of the original counted in versions; its moving means
start anew at every dispatch, because boards keep nothing between tasks. Masks are of single weights: nothing is
saved. The merge leaves out weights that a client has pruned.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from cosp.methods.clients import ClientRecord
from cosp.methods.masking import masking
from cosp.methods.method import Method, Setting
from cosp.methods.rules import Shared
from cosp.task.local import LocalSettings


class Platon(Shared):
    """Nothing is pruned before ``first_version``; from ``last_version`` on a client keeps its share."""

    takes_frozen: ClassVar[bool] = False
    takes_checkpointing: ClassVar[bool] = False
    takes_company: ClassVar[bool] = False

    name: Literal["platon"] = "platon"
    first_version: int = Field(5, ge=0)
    last_version: int = Field(20, ge=1)

    def build(self, setting: Setting) -> Method:
        def local(client: ClientRecord, share: float) -> LocalSettings:
            return LocalSettings(view="platon", kept=self.kept(client.version, share))

        return masking(self, setting, name=self.name, local=local)

    def kept(self, version: int, share: float) -> float:
        """Return the share of weights that is on at ``version``: share + (1 - share) (1 - progress)^3."""
        progress = (version - self.first_version) / max(1, self.last_version - self.first_version)
        return share + (1 - share) * (1 - min(1.0, max(0.0, progress))) ** 3
