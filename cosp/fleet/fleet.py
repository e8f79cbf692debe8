"""Which boards take part: the fleets of ``devices/fleets/*.yaml``, of a user's own file, or inline in a config."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from cosp import forms
from cosp.errors import ConfigError
from cosp.fleet import _files
from cosp.fleet._files import NotNegative, Positive
from cosp.fleet.profiles import DeviceProfile, load_profile
from cosp.forms import Form


@dataclass(frozen=True, kw_only=True)
class Link:
    """What lies between a board and the server."""

    name: str
    downlink_bytes_per_s: float
    uplink_bytes_per_s: float
    latency_s: float  # one way, once per transfer

    def __post_init__(self) -> None:
        for name in ("downlink_bytes_per_s", "uplink_bytes_per_s"):
            if not (value := getattr(self, name)) > 0:
                raise ValueError(f"link {self.name}: {name} must be > 0, got {value}")
        if not self.latency_s >= 0:
            raise ValueError(f"link {self.name}: latency_s must be >= 0, got {self.latency_s}")

    def download_s(self, payload_bytes: int) -> float:
        return self.latency_s + payload_bytes / self.downlink_bytes_per_s

    def upload_s(self, payload_bytes: int) -> float:
        return self.latency_s + payload_bytes / self.uplink_bytes_per_s


@dataclass(frozen=True, kw_only=True)
class Board:
    """One client of a fleet: a board, its link, and how it takes part."""

    client: int
    profile: DeviceProfile
    link: Link
    keep: float | None = None  # keep ratio of the model's parameters; None: as much as the memory holds
    shares: int = 1  # pseudo-clients of the data partition merged into this client
    slowdown: float = 1.0  # multiplies compute time: the board does its day job as well
    dropout: float = 0.0  # chance that a dispatched task never returns

    def __post_init__(self) -> None:
        rules = {
            "client": ("must be >= 0", self.client >= 0),
            "keep": ("must be in (0, 1] or None", self.keep is None or 0 < self.keep <= 1),
            "shares": ("must be >= 1", self.shares >= 1),
            "slowdown": ("must be >= 1", self.slowdown >= 1),
            "dropout": ("must be in [0, 1]", 0 <= self.dropout <= 1),
        }
        for name, (rule, kept) in rules.items():
            if not kept:
                raise ValueError(f"board {self.client}: {name} {rule}, got {getattr(self, name)}")


class _LinkForm(Form):
    title: str = ""
    downlink_mbit_s: Positive
    uplink_mbit_s: Positive
    latency_ms: NotNegative


class _LinksForm(Form):
    links: dict[str, _LinkForm]
    sources: dict[str, str] = Field(default_factory=dict)


class _BoardForm(Form):
    count: int = Field(1, ge=1)  # that many boards alike
    device: str
    mode: str | None = None
    desktop: bool = False  # a graphical desktop takes its share of the memory
    link: str
    keep: float | None = Field(None, gt=0, le=1)
    shares: int = Field(1, ge=1)
    slowdown: float = Field(1.0, ge=1)
    dropout: float = Field(0.0, ge=0, le=1)


class _FleetForm(Form):
    title: str = ""
    notes: list[str] = Field(default_factory=list)
    boards: list[_BoardForm] = Field(min_length=1)
    links: dict[str, _LinkForm] = Field(default_factory=dict)  # further kinds, or others by the same name
    sources: dict[str, str] = Field(default_factory=dict)


def fleet_names() -> tuple[str, ...]:
    """Return the names of the shipped fleets, sorted."""
    return tuple(name for name in _files.names_in(_files.devices_folder() / "fleets") if name != "links")


def load_fleet(source: str | Path | Mapping[str, object]) -> tuple[Board, ...]:
    """Return the boards of a fleet, clients 0, 1, ... in the order of the list.

    ``source`` is a shipped fleet's name, a path to a YAML file, or a mapping of the same form. Paths to device files
    start at the fleet's own folder (inline: the working directory). ConfigError names file, key, value and rule.
    """
    form, where, folder = _read(source)
    links = _links(form, where)
    profile = functools.cache(load_profile)  # a fleet of thousands names few boards
    boards: list[Board] = []
    for position, entry in enumerate(form.boards):
        key = f"{where}: boards.{position}"
        if entry.link not in links:
            raise ConfigError(f"{key}.link: {forms.unknown('link', entry.link, links)}")
        device = folder / entry.device if _files.is_path(entry.device) else entry.device
        try:
            kind = profile(device, entry.mode, desktop=entry.desktop)
        except ConfigError as error:
            raise ConfigError(f"{key}: {error}") from None
        first = len(boards)
        boards += [_board(client, entry, kind, links[entry.link]) for client in range(first, first + entry.count)]
    return tuple(boards)


def _read(source: str | Path | Mapping[str, object]) -> tuple[_FleetForm, str, Path]:
    if isinstance(source, Mapping):
        return forms.parse(dict(source), _FleetForm, where="fleet"), "fleet", Path()
    if not _files.is_path(source) and source not in fleet_names():
        raise ConfigError(forms.unknown("fleet", source, fleet_names()) + " (or give a path ending in .yaml)")
    path = Path(source) if _files.is_path(source) else _files.devices_folder() / "fleets" / f"{source}.yaml"
    return forms.read(path, _FleetForm), str(path), path.parent


def _links(form: _FleetForm, where: str) -> dict[str, Link]:
    shipped_path = _files.devices_folder() / "fleets" / "links.yaml"
    shipped = forms.read(shipped_path, _LinksForm)
    for links, sources, file in (
        (shipped.links, shipped.sources, str(shipped_path)),
        (form.links, form.sources, where),
    ):
        for name, link in links.items():
            tagged = [(f"links.{name}.{key}", fact) for key, fact in _files.facts_of(link)]
            _files.check_tags(tagged, sources, where=file)
    return {name: _link(name, link) for name, link in {**shipped.links, **form.links}.items()}


def _link(name: str, form: _LinkForm) -> Link:
    return Link(
        name=name,
        downlink_bytes_per_s=form.downlink_mbit_s.value * 1e6 / 8,
        uplink_bytes_per_s=form.uplink_mbit_s.value * 1e6 / 8,
        latency_s=form.latency_ms.value * 1e-3,
    )


def _board(client: int, entry: _BoardForm, profile: DeviceProfile, link: Link) -> Board:
    return Board(
        client=client,
        profile=profile,
        link=link,
        keep=entry.keep,
        shares=entry.shares,
        slowdown=entry.slowdown,
        dropout=entry.dropout,
    )
