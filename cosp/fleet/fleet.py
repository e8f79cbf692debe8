"""Which boards take part: the fleets of ``devices/fleets/*.yaml``, of a user's own file, or inline in a config."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cosp import forms
from cosp.errors import ConfigError
from cosp.fleet import _files
from cosp.fleet._fleet_forms import (
    AvailabilityForm,
    FleetForm,
    GenerateForm,
    KindForm,
    ServerForm,
    TraceForm,
)
from cosp.fleet.attack import FACTORS, SHARE, Attack
from cosp.fleet.availability import Availability, Diurnal, Trace, Window, read_trace
from cosp.fleet.board import Board, Change
from cosp.fleet.boards import Boards
from cosp.fleet.links import LinkKinds
from cosp.fleet.network import ServerLink
from cosp.fleet.profiles import DeviceProfile, load_profile
from cosp.fleet.thermal import Throttle
from cosp.seeds import numpy_stream


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """The boards, clients 0, 1, ..., and what they share."""

    boards: Boards
    server: ServerLink  # its own link, shared by all


def fleet_names() -> tuple[str, ...]:
    """Return the names of the shipped fleets, sorted."""
    return tuple(name for name in _files.names_in(_files.devices_folder() / "fleets") if name != "links")


def load_fleet(source: str | Path | Mapping[str, object]) -> Fleet:
    """Return a fleet: clients 0, 1, ... in the order of its list, then those it generates.

    ``source`` is a shipped fleet's name, a path to a YAML file, or a mapping of the same form. Paths to device and
    trace files start at the fleet's own folder (inline: the working directory). ConfigError names file, key, value and
    rule.
    """
    form, where, folder = _read(source)
    links = LinkKinds(form.links, form.sources, where=where, seed=form.seed)
    files = _Files(folder)
    entries: list[tuple[str, KindForm]] = [(f"boards.{i}", entry) for i, entry in enumerate(form.boards)]
    counts = [entry.count for entry in form.boards]
    drawn = np.empty(0, np.int64)
    if form.generate is not None:
        drawn = len(entries) + _draw(form.generate, form.seed)
        entries += [(f"generate.mix.{i}", entry) for i, entry in enumerate(form.generate.mix)]
    makers = [_maker(entry, f"{where}: {key}", links=links, files=files, seed=form.seed) for key, entry in entries]
    listed = np.repeat(np.arange(len(counts)), counts)
    kinds = np.concatenate([listed, drawn]).astype(np.int32)
    boards = Boards(kinds, makers)
    _check(boards, kinds, [entry for _, entry in entries])
    return Fleet(boards=boards, server=_server(form.server))


def _check(boards: Boards, kinds: NDArray[np.int32], entries: Sequence[KindForm]) -> None:
    """ConfigError if a client's board cannot be made: one of each kind tells, but for lines of a trace."""
    traced = [i for i, entry in enumerate(entries) if entry.availability and entry.availability.trace]
    for client in np.flatnonzero(np.isin(kinds, traced)).tolist():
        boards[client]
    boards.one_of_each()


class _Files:
    """Device and trace files, each read once: a fleet of thousands names few."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._profile = functools.cache(load_profile)
        self._trace = functools.cache(read_trace)

    def profile(self, entry: KindForm, mode: str | None) -> DeviceProfile:
        device = self._folder / entry.device if _files.is_path(entry.device) else entry.device
        return self._profile(device, mode, desktop=entry.desktop)

    def trace(self, form: TraceForm) -> dict[int, tuple[Window, ...]]:
        return self._trace(self._folder / form.path)


def _maker(entry: KindForm, where: str, *, links: LinkKinds, files: _Files, seed: int) -> Callable[[int], Board]:
    """Return what makes a board of this entry for a client; ConfigError names ``where``, key, value and rule."""
    if entry.link not in links.names:
        raise ConfigError(f"{where}.link: {forms.unknown('link', entry.link, links.names)}")
    try:
        profile = files.profile(entry, entry.mode)
        changes = _changes(entry, profile, files)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None
    available = _availability(entry.availability, f"{where}.availability", files=files, seed=seed)
    throttle = Throttle(**entry.throttle.model_dump()) if entry.throttle else None
    attack = _attack(entry)

    def make(client: int) -> Board:
        return Board(
            client=client,
            profile=profile,
            link=links.link(entry.link, client),
            keep=entry.keep,
            shares=entry.shares,
            samples=entry.samples,
            slowdown=entry.slowdown,
            dropout=entry.dropout,
            availability=available(client),
            throttle=throttle,
            battery_j=entry.battery_j,
            changes=changes,
            attack=attack,
        )

    return make


def _attack(entry: KindForm) -> Attack | None:
    form = entry.attack
    if form is None:
        return None
    return Attack(
        kind=form.kind,
        at_s=entry.at_s or 0.0,
        factor=FACTORS.get(form.kind, 1.0) if form.factor is None else form.factor,
        target=form.target or 0,
        share=SHARE if form.share is None else form.share,
    )


def _changes(entry: KindForm, profile: DeviceProfile, files: _Files) -> tuple[Change, ...]:
    """Return the entry's changes, each with all that holds from then on; ConfigError if a mode is unknown."""
    found, keep, memory_bytes = [], entry.keep, profile.memory_bytes
    for change in entry.changes:
        if change.mode is not None:
            profile = files.profile(entry, change.mode)
        if change.memory_mib is not None:
            memory_bytes = int(change.memory_mib * 2**20)
        keep = keep if change.keep is None else change.keep
        found.append(Change(at_s=change.at_s, profile=replace(profile, memory_bytes=memory_bytes), keep=keep))
    return tuple(found)


def _availability(
    form: AvailabilityForm | None, where: str, *, files: _Files, seed: int
) -> Callable[[int], Availability | None]:
    """Return what says when a client is on."""
    if form is None:
        return lambda client: None
    if form.diurnal is not None:
        rhythm = form.diurnal.model_dump()
        return lambda client: Diurnal(seed=seed, client=client, **rhythm)
    assert form.trace is not None
    path, period_s = form.trace.path, form.trace.period_s
    try:
        windows = files.trace(form.trace)
    except ConfigError as error:
        raise ConfigError(f"{where}.trace.path: {error}") from None
    ends_s = max((window[1] for client in windows.values() for window in client), default=0.0)
    if period_s is not None and period_s < ends_s:
        raise ConfigError(
            f"{where}.trace.period_s: must not be before the end of {path} ({ends_s:g}), got {period_s:g}"
        )

    def traced(client: int) -> Trace:
        if client not in windows:
            raise ConfigError(f"{where}.trace.path: {path} has no line for client {client}; add when it is on")
        return Trace(windows=windows[client], period_s=period_s)

    return traced


def _draw(form: GenerateForm, seed: int) -> NDArray[np.int64]:
    """Return which entry of the mix each generated client is; a larger count adds clients and changes none."""
    weights = np.array([entry.weight for entry in form.mix])
    return numpy_stream(seed, "mix").choice(len(weights), size=form.count, p=weights / weights.sum())


def _server(form: ServerForm) -> ServerLink:
    send, receive = (
        math.inf if mbit_s is None else mbit_s * 1e6 / 8 for mbit_s in (form.send_mbit_s, form.receive_mbit_s)
    )
    return ServerLink(send_bytes_per_s=send, receive_bytes_per_s=receive)


def _read(source: str | Path | Mapping[str, object]) -> tuple[FleetForm, str, Path]:
    if isinstance(source, Mapping):
        return forms.parse(dict(source), FleetForm, where="fleet"), "fleet", Path()
    if not _files.is_path(source) and source not in fleet_names():
        raise ConfigError(forms.unknown("fleet", source, fleet_names()) + " (or give a path ending in .yaml)")
    path = Path(source) if _files.is_path(source) else _files.devices_folder() / "fleets" / f"{source}.yaml"
    return forms.read(path, FleetForm), str(path), path.parent
