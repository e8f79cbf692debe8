"""The form of a fleet's YAML file."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

from pydantic import Field, model_validator

from cosp import forms
from cosp.fleet.attack import FACTORS, Kind
from cosp.fleet.links import LinkForm
from cosp.forms import Form


class TraceForm(Form):
    path: str  # of a CSV file client,start_s,end_s; starts at the fleet's own folder
    period_s: float | None = Field(None, gt=0)  # the trace repeats


class DiurnalForm(Form):
    """Defaults are assumed: a phone that charges at night, in a run that begins at midnight."""

    on_h: float = Field(8, gt=0, lt=24)
    start_h: float = Field(22, ge=0, lt=24)
    spread_h: float = Field(2, ge=0)
    jitter_h: float = Field(1, ge=0)


class AvailabilityForm(Form):
    trace: TraceForm | None = None
    diurnal: DiurnalForm | None = None

    @model_validator(mode="after")
    def _one_of_them(self) -> AvailabilityForm:
        if (self.trace is None) == (self.diurnal is None):
            raise forms.broken("must have exactly one of trace and diurnal")
        return self


class ThrottleForm(Form):
    after_s: float = Field(ge=0)
    slowdown: float = Field(ge=1)
    recover_s: float = Field(gt=0)


class ChangeForm(Form):
    """What is another from ``at_s`` on; what it does not name stays."""

    at_s: float = Field(gt=0)
    mode: str | None = None
    memory_mib: float | None = Field(None, ge=1e-6)  # left for training; a byte at least
    keep: float | None = Field(None, gt=0, le=1)

    @model_validator(mode="after")
    def _something(self) -> ChangeForm:
        if self.mode is None and self.memory_mib is None and self.keep is None:
            raise forms.broken("must name at least one of mode, memory_mib and keep")
        return self


class AttackForm(Form):
    """A kind alone may stand for ``{kind: KIND}``."""

    kind: Kind
    factor: float | None = Field(None, gt=0)
    target: int | None = Field(None, ge=0)  # the class that a backdoor leads to
    share: float | None = Field(None, gt=0, le=1)  # of the samples that bear its trigger

    @model_validator(mode="before")
    @classmethod
    def _kind_alone(cls, data: Any) -> Any:
        return data if isinstance(data, Mapping) else {"kind": data}

    @model_validator(mode="after")
    def _keys_of_its_kind(self) -> AttackForm:
        if self.factor is not None and self.kind not in FACTORS:
            raise forms.broken(f"factor goes with kind {', '.join(FACTORS)}, got kind {self.kind}")
        if (self.target is not None or self.share is not None) and self.kind != "backdoor":
            raise forms.broken(f"target and share go with kind backdoor, got kind {self.kind}")
        return self


class KindForm(Form):
    """One kind of client."""

    device: str
    mode: str | None = None
    desktop: bool = False  # a graphical desktop takes its share of the memory
    link: str
    keep: float | None = Field(None, gt=0, le=1)
    shares: int = Field(1, ge=1)
    samples: int | None = Field(None, ge=1)  # the most that it is counted with, whatever it claims
    slowdown: float = Field(1.0, ge=1)
    dropout: float = Field(0.0, ge=0, le=1)
    availability: AvailabilityForm | None = None
    throttle: ThrottleForm | None = None
    battery_j: float | None = Field(None, gt=0)
    changes: list[ChangeForm] = Field(default_factory=list)  # of its budget, in the order of time
    attack: AttackForm | None = None  # what it does to harm the run, if it is simulated
    at_s: float | None = Field(None, ge=0)  # from when on; None: from the beginning

    @model_validator(mode="after")
    def _at_s_of_an_attack(self) -> KindForm:
        if self.at_s is not None and self.attack is None:
            raise forms.broken("at_s says when an attack begins: add attack, or remove at_s")
        return self

    @model_validator(mode="after")
    def _in_order(self) -> KindForm:
        times_s = [change.at_s for change in self.changes]
        if any(later <= earlier for earlier, later in itertools.pairwise(times_s)):
            raise forms.broken(f"changes: at_s must grow from one to the next, got {times_s}")
        return self


class BoardForm(KindForm):
    count: int = Field(1, ge=1, le=1_000_000)  # that many boards alike


class MixForm(KindForm):
    weight: float = Field(gt=0)


class GenerateForm(Form):
    count: int = Field(ge=1, le=1_000_000)
    mix: list[MixForm] = Field(min_length=1)  # each client is drawn from it, by weight


class ServerForm(Form):
    send_mbit_s: float | None = Field(None, gt=0)
    receive_mbit_s: float | None = Field(None, gt=0)


class FleetForm(Form):
    title: str = ""
    notes: list[str] = Field(default_factory=list)
    seed: int = 0  # of what is drawn for the fleet itself: mix, links, daily rhythms; the run's seed does not change it
    boards: list[BoardForm] = Field(default_factory=list)
    generate: GenerateForm | None = None  # further clients, after those of ``boards``
    links: dict[str, LinkForm] = Field(default_factory=dict)  # further kinds, or others by the same name
    server: ServerForm = ServerForm()
    sources: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _somebody(self) -> FleetForm:
        if not self.boards and self.generate is None:
            raise forms.broken("boards: must have at least 1 item, or generate must be given")
        return self
