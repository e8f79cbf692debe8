"""What a run's ``config.yaml`` says of it: the settings that a page names and that no row holds.

Read leniently: a page is drawn of any run, also of one whose configuration an older cosp wrote.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cosp.forms import NO_YAML, yaml_value


@dataclass(frozen=True, kw_only=True, slots=True)
class Told:
    """Texts are empty where nothing is said."""

    title: str = ""
    variant: str = ""
    data: str = ""
    partition: str = ""
    fleet: str = ""  # a name; empty for boards that the configuration lists itself
    model: str = ""
    rule: str = "rate"  # of assignment
    budget: str = "parameters"  # what a keep ratio counts
    precision: str = "float32"
    privacy: str = ""  # what is done to an update before it leaves its board


NOTHING_TOLD = Told()


def told(config: str | None) -> Told:
    """Return what the text of a ``config.yaml`` says, nothing of what it does not."""
    try:
        value = yaml_value(config or "")
    except NO_YAML:
        return NOTHING_TOLD
    data, model, method = (_section(value, key) for key in ("data", "model", "method"))
    return Told(
        title=_text(value, "title"),
        variant=_text(value, "variant"),
        data=_text(data, "name"),
        partition=_partition(_section(data, "partition")),
        fleet=_text(value, "fleet"),
        model=", ".join(f"{key} {model[key]}" for key in ("dim", "heads", "hidden", "patch") if model.get(key)),
        rule=_text(_section(value, "assignment"), "rule") or "rate",
        budget=_text(method, "budget") or "parameters",
        precision=_text(_section(value, "training"), "precision") or "float32",
        privacy=_privacy(_section(_section(value, "training"), "privacy")),
    )


def _privacy(settings: Mapping[str, Any]) -> str:
    clip, noise, delta = (settings.get(key) for key in ("clip", "noise", "delta"))
    if not all(isinstance(one, int | float) for one in (clip, noise, delta)):
        return ""
    return f"updates cut to norm {clip:g}, noise {noise:g} times that on every board; delta {delta:g}"


def _section(value: Any, key: str) -> Mapping[str, Any]:
    found = value.get(key) if isinstance(value, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _text(value: Any, key: str) -> str:
    found = value.get(key) if isinstance(value, Mapping) else None
    return found if isinstance(found, str) else ""


def _partition(value: Mapping[str, Any]) -> str:
    """Return the kind and the number that it is by: ``dirichlet 0.5``."""
    number = {"dirichlet": "alpha", "classes": "classes_per_client"}.get(_text(value, "kind"), "")
    return " ".join(str(found) for found in (_text(value, "kind"), value.get(number)) if found)
