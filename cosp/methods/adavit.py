"""AdaViT (Meng et al. 2022, arXiv:2111.15668) in federation: policies decide what of each block an image uses.

Clients train model and policies together with FedAvg. Training masks what it does not use, so it saves neither memory
nor time: what AdaViT saves, it saves in use. The original adds policies to a trained model, from which it distils, and
keeps its first block free of them; here all is trained from the start.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from cosp.methods.method import Method, Setting
from cosp.methods.one_model import OneModel
from cosp.task.local import LocalSettings


class AdaViT(OneModel):
    """``usage`` is the share of patches, heads and sub-layers to be used, ``penalty`` the weight of missing it."""

    name: Literal["adavit"] = "adavit"
    submodel: Literal["full", "fitting"] = "full"
    usage: float = Field(0.5, gt=0, le=1)
    penalty: float = Field(2.0, ge=0)
    takes_frozen: ClassVar[bool] = False
    takes_checkpointing: ClassVar[bool] = False
    takes_company: ClassVar[bool] = False
    model_variant: ClassVar[str] = "adaptive"

    def build(self, setting: Setting) -> Method:
        local = LocalSettings(penalty=self.penalty, target=self.usage)
        return self.one_model(setting, self.name, local)
