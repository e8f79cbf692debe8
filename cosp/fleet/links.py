"""Links between a board and the server: the kinds of ``links.yaml`` and of a fleet's own file, drawn per client."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import Field

from cosp import forms
from cosp.fleet import _files
from cosp.fleet._files import NotNegative, Positive
from cosp.forms import Form
from cosp.seeds import numpy_stream


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


class LinkForm(Form):
    """One kind of link. With a sigma the bandwidth is a median, and each client draws its own (lognormal)."""

    title: str = ""
    downlink_mbit_s: Positive
    uplink_mbit_s: Positive
    latency_ms: NotNegative
    downlink_sigma: NotNegative | None = None
    uplink_sigma: NotNegative | None = None

    def drawn(self, name: str, z: float) -> Link:
        """Return the link of a client whose standard normal draw is ``z``: a good radio is good both ways (assumed)."""
        return Link(
            name=name,
            downlink_bytes_per_s=self.downlink_mbit_s.value * 1e6 / 8 * _factor(self.downlink_sigma, z),
            uplink_bytes_per_s=self.uplink_mbit_s.value * 1e6 / 8 * _factor(self.uplink_sigma, z),
            latency_s=self.latency_ms.value * 1e-3,
        )


class _LinksForm(Form):
    links: dict[str, LinkForm]
    sources: dict[str, str] = Field(default_factory=dict)


class LinkKinds:
    """The kinds that a fleet may name: the shipped ones and its own, which win. ``seed`` fixes what clients draw."""

    def __init__(self, own: Mapping[str, LinkForm], sources: Mapping[str, str], *, where: str, seed: int) -> None:
        path = _files.devices_folder() / "fleets" / "links.yaml"
        shipped = forms.read(path, _LinksForm)
        _check(shipped.links, shipped.sources, where=str(path))
        _check(own, sources, where=where)
        self._seed = seed
        self._kinds = {**shipped.links, **own}
        self._plain = {name: kind.drawn(name, 0.0) for name, kind in self._kinds.items() if not _spreads(kind)}

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._kinds)

    def link(self, name: str, client: int) -> Link:
        """Return the link of kind ``name`` that ``client`` has."""
        if name in self._plain:
            return self._plain[name]
        return self._kinds[name].drawn(name, float(numpy_stream(self._seed, "link", client).standard_normal()))


def _spreads(kind: LinkForm) -> bool:
    return kind.downlink_sigma is not None or kind.uplink_sigma is not None


def _factor(sigma: _files.FactForm | None, z: float) -> float:
    return 1.0 if sigma is None else math.exp(sigma.value * z)


def _check(links: Mapping[str, LinkForm], sources: Mapping[str, str], *, where: str) -> None:
    for name, link in links.items():
        tagged = [(f"links.{name}.{key}", fact) for key, fact in _files.facts_of(link)]
        _files.check_tags(tagged, sources, where=where)
