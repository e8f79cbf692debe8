"""The rules that methods share, as validated settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from cosp.errors import ConfigError
from cosp.forms import Form, broken
from cosp.merge import staleness
from cosp.merge.aggregation import ServerStep
from cosp.merge.clipping import Clip
from cosp.merge.robust import BY_SHARE, RuleName, robust
from cosp.methods.method import LocalTraining, Merging
from cosp.submodel import budget as budgets
from cosp.task.compression import CompressionSettings
from cosp.transfer import TransferSettings


class Settings(Form):
    """A part of a run's configuration: lists may stand for tuples, mappings for dataclasses.

    A section keeps what the default of its key says, but for what is given: ``merge: {momentum: 0.5}`` leaves the rate
    of a method whose default is ``merge: {rate: 0.7}``.
    """

    model_config = ConfigDict(strict=False)

    model_variant: ClassVar[str] = "plain"
    """Of the model that a method trains; see ``cosp.submodel.shape.TransformerShape``."""
    takes_fitted_heads: ClassVar[bool] = True
    """Whether the model that a method serves has the heads that its server is given."""
    takes_some_words: ClassVar[bool] = True
    """Whether a client may hold some rows of a word table."""
    takes_frozen: ClassVar[bool] = True
    """Whether parts of the model may be left untrained."""
    takes_checkpointing: ClassVar[bool] = True
    """Whether its local steps are passes of one submodel that is the same when it is computed again, priced so."""
    takes_company: ClassVar[bool] = True
    """Whether local steps are plain enough for many clients' to be one pass; see ``cosp.models.lanes``."""
    trains_adapters_alone: ClassVar[bool] = False
    """Whether the method is one of adapters on a frozen trunk."""

    @model_validator(mode="before")
    @classmethod
    def _sections_keep_their_defaults(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        defaults = {key: field.default for key, field in cls.model_fields.items()}
        return {key: _merged(defaults.get(key), given) for key, given in data.items()}


class OneOf(Settings):
    """One of several, told apart by ``rule``: another rule keeps nothing of a default's."""


class Constant(OneOf):
    rule: Literal["constant"] = "constant"

    def build(self) -> staleness.WeightRule:
        return staleness.constant()


class Polynomial(OneOf):
    rule: Literal["polynomial"] = "polynomial"
    exponent: float = Field(0.5, ge=0)
    participation: float = Field(0.0, ge=0)

    def build(self) -> staleness.WeightRule:
        return staleness.polynomial(self.exponent, self.participation)


class Hinge(OneOf):
    rule: Literal["hinge"] = "hinge"
    slope: float = Field(0.5, ge=0)
    grace: int = Field(2, ge=0)

    def build(self) -> staleness.WeightRule:
        return staleness.hinge(self.slope, self.grace)


class Drift(OneOf):
    rule: Literal["drift"] = "drift"

    def build(self) -> staleness.WeightRule:
        return staleness.drift()


ATTACKERS = 0.2
"""Share of a round's arrivals that may be hostile, unless a configuration says so."""
Budget = Literal["parameters", "flops"]
Weighting = Annotated[Constant | Polynomial | Hinge | Drift, Field(discriminator="rule")]


class Merge(Settings):
    """How a round moves the model. ``normalise`` "all" divides by the weight of all arrivals, the paper's rule.

    ``clip`` bounds the norm of an update: null on real boards alone, a mapping everywhere, false nowhere. ``rule`` says
    what is made of a round's updates, ``attackers`` which share of them may be hostile (null: a fifth), for rules that
    ask; see ``cosp.merge.robust``.
    """

    normalise: Literal["covered", "all"] = "covered"
    rate: float = Field(1.0, gt=0)
    momentum: float = Field(0.0, ge=0, lt=1)
    clip: Clip | Literal[False] | None = None
    rule: RuleName = "mean"
    attackers: float | None = Field(None, gt=0, lt=0.5)

    @model_validator(mode="after")
    def _rule_takes_the_others(self) -> Merge:
        if self.attackers is not None and self.rule not in BY_SHARE:
            raise broken(f"attackers goes with rule {', '.join(BY_SHARE)}, got rule {self.rule}")
        if self.rule != "mean" and self.normalise == "all":
            raise broken(f"normalise all is of rule mean, got rule {self.rule}: remove one of them")
        return self

    def weighed_by(self, rule: staleness.WeightRule) -> Merging:
        """Return the merge of arrivals that weigh what ``rule`` says."""
        step = ServerStep(rate=self.rate, momentum=self.momentum)
        made = robust(self.rule, ATTACKERS if self.attackers is None else self.attackers)
        return Merging(weigh=rule, step=step, over_all=self.normalise == "all", clip=self.clip, rule=made)


class Shared(Settings):
    """What every method can vary, so that methods are compared with the same loss and the same merge."""

    transfer: TransferSettings = TransferSettings(teacher="none")
    compression: CompressionSettings = CompressionSettings()
    balanced: bool = False
    weighting: Weighting = Constant()
    merge: Merge = Merge()

    def training(self) -> LocalTraining:
        """Return local training as these settings have it."""
        return LocalTraining(transfer=self.transfer, compression=self.compression, balanced=self.balanced)

    def merging(self) -> Merging:
        """Return the merge as these settings have it."""
        return self.merge.weighed_by(self.weighting.build())


class Sized(Shared):
    """What every method can vary that gives a client a submodel by its keep ratio. ``budget`` is what that is a share
    of: parameters, or the FLOPs of a sample, which a table of words takes nothing of. Rules of assignment that count
    memory do not ask it.
    """

    budget: Budget = "parameters"

    @property
    def measure(self) -> budgets.Measure:
        return budgets.MEASURES[self.budget]


def only_the_mean(merge: Merge, why: str) -> None:
    """ConfigError if a method that can merge by the mean alone is asked for another rule."""
    if merge.rule != "mean":
        raise ConfigError(f"method.merge.rule: must be mean, got {merge.rule}: the method {why}")


def _merged(default: object, given: Any) -> Any:
    """Return the section ``given`` over its default; as given, if it is none or asks for another rule."""
    if isinstance(default, BaseModel):
        known = default.model_dump()
    elif is_dataclass(default) and not isinstance(default, type):
        known = asdict(default)
    else:
        return given
    if not isinstance(given, Mapping):
        return given
    if isinstance(default, OneOf) and given.get("rule", known["rule"]) != known["rule"]:
        return given
    return {**known, **given}
