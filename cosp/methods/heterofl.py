"""HeteroFL (Diao et al. 2021, arXiv:2010.01264): a client holds the first units of every group, as many as it can.

What the original has beside that, and what becomes of it in a pre-norm transformer with a whole residual stream:

- *Static norm*: batch norms keep no running statistics. LayerNorms have none, so there is nothing to switch.
- *Scaler* (``scaler``): sums over fewer units are scaled up to the whole model's.
- *Masked cross-entropy* (``masked_loss``): the loss leaves out classes that the client has not.
- The residual width, embeddings and norms are sliced there; here they are whole, so a small client pays for them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, Literal

from cosp.methods.clients import ClientRecord
from cosp.methods.extraction import extracting
from cosp.methods.method import Method, Setting
from cosp.methods.rules import Sized
from cosp.submodel import selection
from cosp.submodel.budget import SubmodelShape
from cosp.submodel.plan import SubmodelPlan
from cosp.task.local import LocalSettings


class HeteroFL(Sized):
    takes_company: ClassVar[bool] = False

    name: Literal["heterofl"] = "heterofl"
    scaler: bool = True
    masked_loss: bool = True

    def build(self, setting: Setting) -> Method:
        whole = setting.model.full_plan()

        def local_of(plan: SubmodelPlan) -> LocalSettings:
            return LocalSettings(view="scaled" if self.scaler and plan != whole else "plain")

        def extra(shape: SubmodelShape) -> dict[str, Any]:
            return {"local": local_of(shape.prefix(setting.model))}

        def local(client: ClientRecord) -> LocalSettings:
            return local_of(method.submodels.plan(client))

        method = extracting(self, setting, name=self.name, rule=selection.prefix, extra=extra)
        return replace(method, local=replace(method.local, steps=local, present_labels=self.masked_loss))
