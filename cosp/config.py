"""A run's configuration: one YAML file read into one typed, frozen value; an unknown key is an error that names it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Discriminator, Field, PositiveInt, Tag, model_validator

from cosp.data.columns import Strip
from cosp.data.kinds import SampleKind, kind_of
from cosp.data.partition import Kind
from cosp.errors import ConfigError
from cosp.forms import NO_YAML, broken, load_yaml, parse, unknown, yaml_value
from cosp.methods import MethodSettings
from cosp.methods.assignment import Rule
from cosp.methods.rules import Settings
from cosp.submodel.adapters import Adapters
from cosp.task.training import TrainSettings

BASE = "base"
"""What a table calls a file without any variant."""
NO_VARIANTS = "variants: must be a mapping of names to dotted keys and values"
NO_CHANGES: Mapping[str, Any] = {}


class PartitionConfig(Settings):
    """How training images are spread over clients; see ``cosp.data.PartitionScheme``.

    ``kind`` column: as the data say, by ``column``, an array of an npz or a column (None: ``client``); in a folder of
    images, by the folders above the class folders. See ``cosp.data.natural``.
    """

    kind: Kind | Literal["column"] = "dirichlet"
    column: str | None = Field(None, min_length=1)
    alpha: float = Field(1.5, gt=0)
    classes_per_client: int = Field(2, ge=1)
    pseudo_clients: bool = True
    min_samples: int = Field(10, ge=1)

    @model_validator(mode="after")
    def _column_of_kind_column(self) -> PartitionConfig:
        if self.column is not None and self.kind != "column":
            raise broken(f"column goes with kind: column, got kind {self.kind}")
        return self


class DeclaredData(Settings):
    """Data that is not here, for plans and dry runs: so many samples a client on average.

    ``shape`` is an image's (C, H, W), (T, C) of a series of T steps, or (T,) of a text of T words below ``vocabulary``.
    ``shares`` of the fleet's boards weigh the clients where ``partition.pseudo_clients`` is on; no other rule of the
    partition applies.
    """

    shape: tuple[PositiveInt] | tuple[PositiveInt, PositiveInt] | tuple[PositiveInt, PositiveInt, PositiveInt]
    vocabulary: int | None = Field(None, ge=1)
    classes: int = Field(ge=2)
    samples_per_client: int = Field(ge=2)

    @model_validator(mode="after")
    def _words_are_numbered(self) -> DeclaredData:
        if (len(self.shape) == 1) != (self.vocabulary is not None):
            raise broken(f"vocabulary goes with texts, a shape of one number; got shape {list(self.shape)}")
        return self


class DataConfig(Settings):
    """``name`` is a data set or a path; sizes None take all; each client holds back ``local_test`` of its images.

    ``image`` and ``label`` name columns of a Hugging Face set; None finds them by their types.
    Where ``declared`` says what the data are, none are read: ``name`` is then but a name. ``kind`` says what samples
    are where their shape does not: (N, T[, C]) of an ``.npz`` are series if ``kind`` is.
    """

    name: str = "digits"
    image: str | None = Field(None, min_length=1)
    label: str | None = Field(None, min_length=1)
    kind: SampleKind | None = None
    declared: DeclaredData | None = None
    train: int | None = Field(None, ge=1)
    validation: int | None = Field(None, ge=1)
    test: int | None = Field(None, ge=1)
    image_size: int | None = Field(None, ge=1)
    stream: bool = False
    """Leave a folder's images in their files and decode them batch by batch."""
    text: str | None = Field(None, min_length=1)
    text_pair: str | None = Field(None, min_length=1)
    columns: tuple[str, ...] | None = None
    """Of texts in a .csv or .tsv without a header line: what its columns are called."""
    strip: Strip | None = None
    tokenizer: str | None = None
    """A tokenizer.json, or a folder with one. None takes the pretrained model's own, else one is trained here."""
    vocabulary: int | None = Field(None, ge=1)
    tokens: int | None = Field(None, ge=1)
    """How many words of a text are read. Shorter texts are filled up."""
    partition: PartitionConfig = PartitionConfig()
    local_test: float = Field(0.2, gt=0, lt=1)

    @model_validator(mode="after")
    def _declared_is_of_its_kind(self) -> DataConfig:
        if self.kind is not None and self.declared is not None and kind_of(self.declared.shape) != self.kind:
            found, shape = kind_of(self.declared.shape), list(self.declared.shape)
            raise broken(f"kind is {self.kind}, but declared.shape {shape} is that of {found}")
        return self


Vocabulary = Literal["whole", "own", "frozen"]
"""Which rows of a text model's word table a board holds: all; those that its own texts use; or those, not trained."""


class ModelConfig(Settings):
    """The global transformer. ``exits`` None puts them after 1/4, 1/2, 3/4 and all of the blocks.

    ``patch`` is the side of the squares that images are cut into, or the steps of the patches that series are; texts
    have none. ``vocabulary``, of texts, None is "whole": docs/models.md says why. ``adapters`` stand beside projections
    of every block; see ``cosp.submodel.adapters``.
    """

    patch: int | None = Field(None, ge=1)
    dim: int = Field(64, ge=1, le=65_536)
    blocks: int = Field(4, ge=1, le=1_024)
    heads: int = Field(4, ge=1, le=1_024)
    hidden: int = Field(256, ge=1, le=1_048_576)
    exits: tuple[int, ...] | None = None
    pooling: Literal["mean", "class"] = "mean"
    vocabulary: Vocabulary | None = None
    adapters: Adapters | None = None


class PretrainedConfig(Settings):
    """A global transformer that begins as a trained one: a folder, a file or a name on the Hugging Face hub.

    Its sizes are the checkpoint's own; exits are as in :class:`ModelConfig`. ``pooling`` None reads what the checkpoint
    was made to be read by. ``heads``: how exits begin that the checkpoint has no head for: "ridge" fits them to the
    boards' frozen features in closed form, "fresh" draws them; None is ridge, if the method can take fitted heads.
    ``vocabulary`` and ``adapters`` are as in :class:`ModelConfig`.
    """

    pretrained: str = Field(min_length=1)
    exits: tuple[int, ...] | None = None
    pooling: Literal["mean", "class"] | None = None
    heads: Literal["ridge", "fresh"] | None = None
    vocabulary: Vocabulary | None = None
    adapters: Adapters | None = None


FRESH, PRETRAINED = "(fresh)", "(pretrained)"  # no keys of a file, so that errors can leave them out


def _which_model(data: Any) -> str:
    given = "pretrained" in data if isinstance(data, Mapping) else isinstance(data, PretrainedConfig)
    return PRETRAINED if given else FRESH


AnyModel = Annotated[
    Annotated[ModelConfig, Tag(FRESH)] | Annotated[PretrainedConfig, Tag(PRETRAINED)], Discriminator(_which_model)
]


class AssignmentConfig(Settings):
    """How big each board's submodel is; see ``cosp.methods.Assignment``. Rule "time" needs ``target_round_s``."""

    rule: Rule = "rate"
    target_round_s: float | None = Field(None, gt=0)

    @model_validator(mode="after")
    def _target_of_rule_time(self) -> AssignmentConfig:
        if self.rule == "time" and self.target_round_s is None:
            raise broken("rule time needs target_round_s, the seconds that a training task may take")
        return self


class ServerConfig(Settings):
    """When rounds close. ``quorum`` is a share of the clients in flight (0.5) or a count (8).

    A run ends at ``versions``, or at ``until_s`` seconds with the last version that closed by then, whichever is first.
    Without either it makes 40 versions. ``evaluate_every_s`` takes the place of ``evaluate_every``.

    A run goes on without boards that cannot take part while ``min_clients`` are left: half of the fleet, unless given;
    given, it also begins without those who do not come in time. Who sends ``ban_after`` replies in a row that no honest
    board sends is banned for the run (null: nobody is).
    """

    versions: int | None = Field(None, ge=1)
    until_s: float | None = Field(None, gt=0)
    quorum: float | int = Field(0.5, gt=0)
    deadline_s: float | None = Field(None, gt=0)
    max_staleness: int | None = Field(None, ge=0)
    concurrency: int | None = Field(None, ge=1)
    task_timeout_s: float | None = Field(None, gt=0)
    evaluate_every: int = Field(1, ge=1)
    evaluate_every_s: float | None = Field(None, gt=0)
    min_clients: int | None = Field(None, ge=1)
    ban_after: int | None = Field(3, ge=1)
    checkpoint_every: int = Field(10, ge=1)

    @model_validator(mode="before")
    @classmethod
    def _forty_versions(cls, data: Any) -> Any:
        said = not isinstance(data, Mapping) or "versions" in data or data.get("until_s") is not None
        return data if said else {**data, "versions": 40}

    @model_validator(mode="after")
    def _has_an_end(self) -> ServerConfig:
        if self.versions is None and self.until_s is None:
            raise broken("says no end of the run: give versions, until_s or both")
        return self


class Config(Settings):
    """One run. ``jitter`` is the deviation of the log of compute times; ``versions`` records what wrote the file.

    A simulation trains at most ``together`` clients whose submodels have the same sizes in one pass; see docs/scale.md.
    """

    name: str
    title: str = ""
    seed: int = Field(0, ge=0)
    data: DataConfig = DataConfig()
    fleet: str | dict[str, Any] = "paper16"
    jitter: float = Field(0.05, ge=0, le=3)
    model: AnyModel
    method: MethodSettings
    assignment: AssignmentConfig = AssignmentConfig()
    training: TrainSettings = TrainSettings()
    together: int = Field(1, ge=1, le=256)
    server: ServerConfig = Field(default_factory=ServerConfig)  # a plain default would fill in its versions
    variant: str | None = None
    versions: dict[str, str] = {}

    @model_validator(mode="after")
    def _method_takes_fitted_heads(self) -> Config:
        asked = isinstance(self.model, PretrainedConfig) and self.model.heads == "ridge"
        if asked and not self.method.takes_fitted_heads:
            raise broken(
                f"model.heads ridge does not go with method {self.method.name}, which draws its heads' weights anew; "
                "set model.heads: fresh"
            )
        return self

    @model_validator(mode="after")
    def _method_takes_some_words(self) -> Config:
        if asks_words(self) and not self.method.takes_some_words:
            raise broken(
                f"model.vocabulary {self.model.vocabulary} does not go with method {self.method.name}, which masks the "
                "whole word table; remove the key"
            )
        return self

    @model_validator(mode="after")
    def _method_takes_frozen_parts(self) -> Config:
        if self.trains.frozen and not self.method.takes_frozen:
            raise broken(
                f"training.frozen does not go with method {self.method.name}, which masks or ranks all weights; remove "
                "the key"
            )
        return self

    @model_validator(mode="after")
    def _method_takes_checkpointing(self) -> Config:
        if self.training.checkpointing and not self.method.takes_checkpointing:
            raise broken(
                f"training.checkpointing does not go with method {self.method.name}, which masks, draws, rounds or "
                "cuts its blocks anew at every step; remove the key"
            )
        return self

    @model_validator(mode="after")
    def _trains_together(self) -> Config:
        if self.together == 1:
            return self
        words = {
            f"method {self.method.name}": not self.method.takes_company,
            "training.frozen": bool(self.trains.frozen),
            "training.checkpointing": self.training.checkpointing,
            "training.precision mixed": self.training.precision == "mixed",
            f"model.vocabulary {self.model.vocabulary}": asks_words(self),
        }
        for what, alone in words.items():
            if alone:
                raise broken(f"together {self.together} does not go with {what}: leave one of the two out")
        return self

    @model_validator(mode="after")
    def _method_takes_halves(self) -> Config:
        key = f"training.frozen_as {self.training.frozen_as}"
        if not self.training.left.halves:
            return self
        if not self.trains.frozen:
            raise broken(
                f"{key} is how boards hold what is frozen, and nothing is: give training.frozen, {{blocks: 2}} for "
                "instance, or remove the key"
            )
        if not self.method.takes_checkpointing:
            raise broken(
                f"{key} does not go with method {self.method.name}, which cuts smaller submodels anew at every step; "
                "remove the key"
            )
        scoring = getattr(self.method, "scoring", None)
        if scoring is not None and scoring.how == "squared_gradient":
            raise broken(
                f"{key} does not go with method.scoring.how squared_gradient, which takes gradients of all weights; "
                "take another"
            )
        return self

    @model_validator(mode="after")
    def _method_takes_adapters(self) -> Config:
        name, adapted = self.method.name, self.model.adapters is not None
        if self.method.trains_adapters_alone and not adapted:
            raise broken(
                f"method {name} trains adapters, and the model has none: give model.adapters, {{rank: 8}} for instance"
            )
        if adapted and not (self.method.takes_frozen and self.method.model_variant == "plain"):
            raise broken(
                f"model.adapters does not go with method {name}, which masks or ranks all weights or changes the "
                "blocks; remove the key"
            )
        if self.trains.left.trunk and not adapted:
            raise broken(
                "training.frozen: trunk leaves nothing of the blocks to train: give model.adapters, or freeze all "
                "blocks (blocks: N) to train the exits alone"
            )
        return self

    @property
    def trains(self) -> TrainSettings:
        """How boards train: ``training``, and what ``model.vocabulary`` and the method freeze."""
        left = self.training.left
        words = ("words",) if self.model.vocabulary == "frozen" and not left.words else ()
        trunk = ("trunk",) if self.method.trains_adapters_alone and not left.trunk else ()
        more = words + trunk
        return replace(self.training, frozen=(*self.training.frozen, *more)) if more else self.training

    @property
    def label(self) -> str:
        """Return a name for the run's folder."""
        return "-".join(filter(None, (self.name, self.variant)))


def asks_words(config: Config) -> bool:
    """Say whether each board holds those rows of the word table that its own texts use, which it is asked for."""
    return config.model.vocabulary not in (None, "whole")


def fits_heads(config: Config) -> bool:
    """Say whether a pretrained model's heads are fitted in closed form before training."""
    model = config.model
    return isinstance(model, PretrainedConfig) and model.heads != "fresh" and config.method.takes_fitted_heads


def load_config(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Read a configuration, apply its variant and ``key=value`` overrides; ConfigError names file, key, value, rule.

    ``variants:`` in the file maps a name to dotted keys and their values; ``variant=NAME`` chooses one.
    """
    return checked(raw_config(path, overrides), path)


def raw_config(
    path: Path,
    overrides: Sequence[str] = (),
    *,
    levels: Mapping[str, Any] = NO_CHANGES,
    settings: Mapping[str, Any] = NO_CHANGES,
) -> dict[str, Any]:
    """Return what a file says, changed by dotted keys: by ``levels``, then its variant, ``settings``, ``overrides``."""
    value = load_yaml(path)
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: must be a mapping of keys to values, got {type(value).__name__}")
    pairs = [pair_of(text) for text in overrides]
    resolved = bool(value.get("versions"))  # then its variant is applied already
    asked = [new for key, new in pairs if key == "variant"]
    variant = asked[-1] if asked else None if resolved else value.get("variant")
    variants = value.pop("variants", None) or {}
    value.pop("table", None)  # see cosp.tables
    for key, new in levels.items():
        set_key(value, key, new, where=f"{path}: table.grid")
    if variant is not None:
        for key, new in _changes(variants, variant, where=str(path)).items():
            set_key(value, key, new, where=f"{path}: variants.{variant}")
    for key, new in settings.items():
        set_key(value, key, new, where=f"{path}: table.search")
    for key, new in pairs:
        set_key(value, key, new, where="--set")
    return value


def has_stream(path: Path) -> bool:
    """Say whether a file is of boards that serve, for ``cosp adapt``."""
    value = load_yaml(path)
    return isinstance(value, dict) and "stream" in value


def checked(value: object, where: str | Path) -> Config:
    """Return the configuration that ``value`` is; ConfigError, of ``where`` it comes from, if it is none."""
    if isinstance(value, dict) and "stream" in value:
        raise ConfigError(
            f"{where}: stream: is of boards that serve and train nothing; give it to cosp adapt, or to cosp server "
            "adapt for real ones"
        )
    config = parse(value, Config, where=str(where))
    if isinstance(config.server.quorum, float) and config.server.quorum > 1:
        raise ConfigError(
            f"{where}: server.quorum: a share must lie in (0, 1], got {config.server.quorum}; a count has no point"
        )
    return config


def variant_names(path: Path) -> tuple[str, ...]:
    """Return the variants that the file offers; ConfigError if one's name cannot be a folder's beside ``BASE``."""
    value = load_yaml(path)
    variants = (value.get("variants") if isinstance(value, dict) else None) or {}
    if not isinstance(variants, dict):
        raise ConfigError(f"{path}: {NO_VARIANTS}, got {variants!r}")
    for name in variants:
        check_name(name, f"{path}: variants")
        if name == BASE:
            raise ConfigError(f"{path}: variants: {BASE!r} is the file's own line; give the variant another name")
    return tuple(variants)


def check_name(name: object, where: str) -> None:
    """ConfigError unless ``name`` can be a folder's."""
    if not isinstance(name, str) or not re.fullmatch(r"\w[\w.-]*", name):
        raise ConfigError(f"{where}: a name must be letters, digits, '_', '.' and '-', got {name!r}")


def dump_config(config: Settings, versions: Mapping[str, str]) -> str:
    """Return the resolved configuration as YAML; reading it back gives an equal value."""
    value = config.model_dump(mode="json") | {"versions": dict(versions)}
    return yaml.safe_dump(value, sort_keys=False)


def _changes(variants: object, variant: object, *, where: str) -> dict[str, Any]:
    """Return the dotted keys and values of one variant."""
    if not isinstance(variants, dict):
        raise ConfigError(f"{where}: {NO_VARIANTS}, got {variants!r}")
    if not isinstance(variant, str) or variant not in variants:
        raise ConfigError(f"{where}: variant: {unknown('variant', variant, variants)}")
    changes = variants[variant]
    if not isinstance(changes, dict) or not all(isinstance(key, str) for key in changes):
        raise ConfigError(f"{where}: variants.{variant}: must be a mapping of dotted keys to values, got {changes!r}")
    return changes


def pair_of(text: str) -> tuple[str, Any]:
    """Return the dotted key and the value of a ``--set``; ConfigError if it is none."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ConfigError(f"--set {text}: must be key=value, e.g. --set server.versions=10")
    try:
        return key, yaml_value(value)
    except NO_YAML:
        raise ConfigError(f"--set {key}: {value!r} is not a YAML value") from None


def set_key(value: dict[str, Any], dotted: str, new: Any, *, where: str) -> None:
    """Set one dotted key; sections on the way are made if they are missing."""
    *sections, last = dotted.split(".")
    for section in sections:
        value = value.setdefault(section, {})
        if not isinstance(value, dict):
            raise ConfigError(f"{where}: {dotted}: {section} is a value, not a section")
    value[last] = new


def dotted(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield what nested sections hold, by dotted key: what ``set_key`` would set."""
    for key, inner in value.items():
        if isinstance(inner, Mapping):
            yield from dotted(inner, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", inner
