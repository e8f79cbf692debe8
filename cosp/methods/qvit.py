"""Q-ViT (Li et al. 2022, arXiv:2201.07703) in federation: FedAvg of a model whose weights and inputs are rounded.

Scales and bits are parameters of the model: they are sent, trained and merged like all others. Rounding is simulated in
float32, so training takes more memory and time than without, and what is sent is float32 too: what Q-ViT saves, it
saves in use, on hardware that multiplies few bits.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from cosp.methods.method import Method, Setting
from cosp.methods.one_model import OneModel
from cosp.task.local import LocalSettings


class QViT(OneModel):
    """``bits`` is the mean number of bits to be spent, ``penalty`` the weight of missing it."""

    name: Literal["q-vit"] = "q-vit"
    submodel: Literal["full", "fitting"] = "full"
    bits: float = Field(4.0, ge=2, le=8)
    penalty: float = Field(0.1, ge=0)
    takes_frozen: ClassVar[bool] = False
    takes_checkpointing: ClassVar[bool] = False
    takes_company: ClassVar[bool] = False
    model_variant: ClassVar[str] = "quantised"

    def build(self, setting: Setting) -> Method:
        local = LocalSettings(penalty=self.penalty, target=self.bits)
        return self.one_model(setting, self.name, local)
