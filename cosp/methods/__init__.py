"""Methods by name: one file each."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from cosp.methods.assignment import Assignment
from cosp.methods.base import Method, Setting
from cosp.methods.co_s2p import CoS2P
from cosp.methods.co_s2p_paper import CoS2PPaper
from cosp.methods.fedavg import FedAvg

MethodSettings = Annotated[CoS2P | CoS2PPaper | FedAvg, Field(discriminator="name")]

__all__ = ["Assignment", "CoS2P", "CoS2PPaper", "FedAvg", "Method", "MethodSettings", "Setting"]
