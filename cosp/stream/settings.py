"""The configuration of ``cosp adapt``: a trained model, what comes to its boards, what goes up and what comes down."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from cosp.adaptation.corruptions import CORRUPTIONS
from cosp.adaptation.download import DownloadSettings
from cosp.adaptation.posted import UpSettings
from cosp.adaptation.teach import AdaptSettings
from cosp.config import raw_config
from cosp.errors import ConfigError
from cosp.forms import broken, parse, unknown
from cosp.methods.rules import Settings
from cosp.stream.clusters import ClusterConfig

NONE = "none"
"""The shift that ends one."""
Order = Literal["shuffled", "classes", "as_is"]


class Shift(Settings):
    """From ``at_s`` on samples are corrupted so; ``corruption`` none: they are clean again."""

    at_s: float = Field(ge=0)
    corruption: str
    severity: int = Field(3, ge=1, le=5)

    @field_validator("corruption")
    @classmethod
    def _is_known(cls, name: str) -> str:
        return _known(name, (NONE, *CORRUPTIONS))


class Rounds(Settings):
    """Each board draws an order of ``corruptions`` (None: all) and goes through it, ``every_s`` at each of the
    ``severities``, one corruption after another; before the first it is ``clean_s`` long spared. ``together``: one
    order is drawn for all boards, as at one site.
    """

    every_s: float = Field(gt=0)
    clean_s: float = Field(0.0, ge=0)
    severities: tuple[int, ...] = (1, 3, 5, 3, 1)
    corruptions: tuple[str, ...] | None = None
    together: bool = False

    @field_validator("severities")
    @classmethod
    def _one_to_five(cls, severities: tuple[int, ...]) -> tuple[int, ...]:
        if not severities or not all(1 <= one <= 5 for one in severities):
            raise broken(f"must be some of 1..5, got {list(severities)}")
        return severities

    @field_validator("corruptions")
    @classmethod
    def _are_known(cls, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if names is not None and not names:
            raise broken("must name at least one corruption; leave the key out for all")
        return None if names is None else tuple(_known(name, CORRUPTIONS) for name in names)


LISTED, DRAWN = "(listed)", "(drawn)"  # no keys of a file, so that errors can leave them out


def _which_drift(data: Any) -> str:
    return DRAWN if isinstance(data, Mapping | Rounds) else LISTED


Drift = Annotated[
    Annotated[tuple[Shift, ...], Tag(LISTED)] | Annotated[Rounds, Tag(DRAWN)], Discriminator(_which_drift)
]


class BoardStream(Settings):
    """What comes to the boards ``clients`` otherwise than to the rest; what it does not name is as for the rest."""

    clients: tuple[int, ...] = Field(min_length=1)
    per_s: float | None = Field(None, gt=0)
    order: Order | None = None
    drift: Drift | None = None
    data: str | None = Field(None, min_length=1)

    @field_validator("drift")
    @classmethod
    def _in_time(cls, drift: Drift | None) -> Drift | None:
        _check_order(drift)
        return drift


class StreamConfig(Settings):
    """What comes to the boards, for ``until_s`` seconds; at the end of each ``window_s`` a board sends what it chose.

    Samples come at random, ``per_s`` a second on average: the run's test data, or ``data``, a set with labels, which
    measure and are never sent. ``order`` None: shuffled; as they lie, ``as_is``, if they are other ``data``, which are
    in the order of time, and the stream ends with them. Boards answer ``batch`` samples at a time. ``drift`` says how
    images change with time; ``boards`` name those to which something else comes.
    """

    until_s: float = Field(gt=0)
    window_s: float = Field(60.0, gt=0)
    per_s: float = Field(1.0, gt=0)
    data: str | None = Field(None, min_length=1)
    order: Order | None = None
    batch: int = Field(1, ge=1)
    drift: Drift = ()
    boards: tuple[BoardStream, ...] = ()

    @field_validator("drift")
    @classmethod
    def _in_time(cls, drift: Drift) -> Drift:
        _check_order(drift)
        return drift

    @model_validator(mode="after")
    def _some_windows(self) -> StreamConfig:
        if self.window_s > self.until_s:
            raise broken(f"window_s {self.window_s:g} is longer than the stream, until_s {self.until_s:g}: shorten it")
        return self

    @model_validator(mode="after")
    def _each_board_once(self) -> StreamConfig:
        named = [client for entry in self.boards for client in entry.clients]
        twice = next((client for client in named if named.count(client) > 1), None)
        if twice is not None:
            raise broken(f"boards: client {twice} is named twice; say once what comes to it")
        return self

    def of(self, client: int) -> BoardStream:
        """Return what comes to ``client``, nothing left open."""
        own = next((entry for entry in self.boards if client in entry.clients), None)
        data = (own and own.data) or self.data
        order: Order = (own and own.order) or self.order or ("shuffled" if data is None else "as_is")
        return BoardStream(
            clients=(client,),
            per_s=(own and own.per_s) or self.per_s,
            order=order,
            drift=self.drift if own is None or own.drift is None else own.drift,
            data=data,
        )


class TrialConfig(Settings):
    """A new set is on trial for so many ``windows``: on the boards ``canaries``, a number of them or which (0: on all).

    It is taken back if these are less sure with it than before, in each of the windows and by more than ``margin`` of
    the most that there is, compared with what happened to the others.
    """

    windows: int = Field(2, ge=1)
    margin: float = Field(0.02, ge=0, le=1)
    canaries: int | tuple[int, ...] = 0

    @field_validator("canaries")
    @classmethod
    def _a_count(cls, canaries: int | tuple[int, ...]) -> int | tuple[int, ...]:
        if isinstance(canaries, int) and canaries < 0:
            raise broken(f"must be a number of boards or which, got {canaries}")
        return canaries


class AdaptModel(Settings):
    """The run whose model is deployed."""

    pretrained: str = Field(min_length=1)


class AdaptConfig(Settings):
    """One stream, from its YAML file. ``fleet`` None: the boards that the run was trained on.

    ``sets``: one adapted set for all boards, one for each list of clients that drift alike, or one a board, which is
    then made of its own samples alone; or ``drift``: one for each of the ``clusters`` that are found as boards drift.
    ``trial`` null: a new set is for all boards at once, and none is taken back.
    A checkpoint is written every ``checkpoint_every`` windows.
    """

    name: str
    title: str = ""
    seed: int = Field(0, ge=0)
    model: AdaptModel
    fleet: str | dict[str, Any] | None = None
    jitter: float = Field(0.05, ge=0, le=3)
    stream: StreamConfig
    upload: UpSettings = UpSettings()
    adapt: AdaptSettings = AdaptSettings()
    download: DownloadSettings = DownloadSettings()
    sets: Literal["all", "board", "drift"] | tuple[tuple[int, ...], ...] = "all"
    clusters: ClusterConfig = ClusterConfig()
    trial: TrialConfig | None = TrialConfig()
    checkpoint_every: int = Field(1, ge=1)
    variant: str | None = None
    versions: dict[str, str] = {}

    @model_validator(mode="before")
    @classmethod
    def _a_model_to_serve(cls, data: Any) -> Any:
        if isinstance(data, Mapping) and "stream" in data and not data.get("model"):
            raise broken("stream needs a model that serves it: give model: {pretrained: RUN}, a run that has ended")
        return data

    @model_validator(mode="after")
    def _canaries_share_a_set(self) -> AdaptConfig:
        if self.sets == "board" and self.trial is not None and self.trial.canaries:
            raise broken("trial.canaries try a set for others, and sets: board gives each board its own; leave it out")
        return self

    @property
    def label(self) -> str:
        """Return a name for the run's folder."""
        return "-".join(filter(None, (self.name, self.variant)))


def load_adapt(path: Path, overrides: Sequence[str] = ()) -> AdaptConfig:
    """Read what ``cosp adapt`` is given, with its variant and ``key=value`` overrides; ConfigError if it is wrong."""
    value = raw_config(path, overrides)
    if "stream" not in value:
        raise ConfigError(f"{path}: stream: is missing: what comes to the boards; a run that trains is for cosp run")
    return parse(value, AdaptConfig, where=str(path))


def _known(name: str, names: Iterable[str]) -> str:
    if name not in names:
        raise broken(unknown("corruption", name, names))
    return name


def _check_order(drift: Drift | None) -> None:
    times_s = [shift.at_s for shift in drift] if isinstance(drift, tuple) else []
    if any(later <= earlier for earlier, later in itertools.pairwise(times_s)):
        raise broken(f"at_s must grow from one to the next, got {times_s}")
