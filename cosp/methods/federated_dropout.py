"""Federated dropout (Caldas et al. 2018, arXiv:1812.07210): a client holds fresh random units at every dispatch.

The original drops the same share everywhere; here each client keeps what its budget allows. Its lossy compression of
what is sent is left out.
"""

from __future__ import annotations

from typing import Literal

from cosp.methods.extraction import extracting
from cosp.methods.method import Method, Setting
from cosp.methods.rules import Sized
from cosp.submodel import selection


class FederatedDropout(Sized):
    name: Literal["federated-dropout"] = "federated-dropout"

    def build(self, setting: Setting) -> Method:
        return extracting(self, setting, name=self.name, rule=selection.random)
