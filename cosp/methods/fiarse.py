"""FIARSE (Wu et al. 2024, arXiv:2407.19389): a client keeps the globally largest weights on, and its threshold learns.

Masks are of single weights, so a board holds the whole model: no memory, time or bytes are saved, although every client
keeps its own share of the weights on. The original also masks biases and sends masked models.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from cosp.methods.clients import ClientRecord
from cosp.methods.masking import masking
from cosp.methods.method import Method, Setting
from cosp.methods.rules import Shared
from cosp.task.local import LocalSettings


class FIARSE(Shared):
    takes_frozen: ClassVar[bool] = False
    takes_checkpointing: ClassVar[bool] = False
    takes_company: ClassVar[bool] = False

    name: Literal["fiarse"] = "fiarse"

    def build(self, setting: Setting) -> Method:
        def local(client: ClientRecord, share: float) -> LocalSettings:
            return LocalSettings(view="fiarse", kept=share)

        return masking(self, setting, name=self.name, local=local)
