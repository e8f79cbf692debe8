"""Methods by name: one file each."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from cosp.methods.adavit import AdaViT
from cosp.methods.assignment import Assignment
from cosp.methods.co_s2p import CoS2P
from cosp.methods.co_s2p_paper import CoS2PPaper
from cosp.methods.depthfl import DepthFL
from cosp.methods.fedasync import FedAsync
from cosp.methods.fedavg import FedAvg
from cosp.methods.fedavg_lora import FedAvgLoRA
from cosp.methods.fedbuff import FedBuff
from cosp.methods.federated_dropout import FederatedDropout
from cosp.methods.fedpm import FedPM
from cosp.methods.fedprox import FedProx
from cosp.methods.fedrolex import FedRolex
from cosp.methods.fiarse import FIARSE
from cosp.methods.fjord import FjORD
from cosp.methods.flexlora import FlexLoRA
from cosp.methods.flora import FLoRA
from cosp.methods.heterofl import HeteroFL
from cosp.methods.hetlora import HetLoRA
from cosp.methods.method import Method, Setting
from cosp.methods.platon import Platon
from cosp.methods.prunefl import PruneFL
from cosp.methods.qvit import QViT
from cosp.methods.ra_fed import RAFed
from cosp.methods.scalefl import ScaleFL

MethodSettings = Annotated[
    CoS2P
    | CoS2PPaper
    | FedAvg
    | FedProx
    | FedAsync
    | FedBuff
    | HeteroFL
    | FjORD
    | FedRolex
    | FederatedDropout
    | RAFed
    | DepthFL
    | ScaleFL
    | PruneFL
    | Platon
    | FIARSE
    | FedPM
    | AdaViT
    | QViT
    | FedAvgLoRA
    | HetLoRA
    | FlexLoRA
    | FLoRA,
    Field(discriminator="name"),
]

__all__ = [
    "FIARSE",
    "AdaViT",
    "Assignment",
    "CoS2P",
    "CoS2PPaper",
    "DepthFL",
    "FLoRA",
    "FedAsync",
    "FedAvg",
    "FedAvgLoRA",
    "FedBuff",
    "FedPM",
    "FedProx",
    "FedRolex",
    "FederatedDropout",
    "FjORD",
    "FlexLoRA",
    "HetLoRA",
    "HeteroFL",
    "Method",
    "MethodSettings",
    "Platon",
    "PruneFL",
    "QViT",
    "RAFed",
    "ScaleFL",
    "Setting",
]
