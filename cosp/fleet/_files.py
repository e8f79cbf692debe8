"""Where the device and fleet files lie, and what they have in common: numbers with the tag of their source."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, model_validator

from cosp.errors import ConfigError
from cosp.forms import Form, broken, unknown

_PACKAGE = Path(__file__).resolve().parents[1]


class FactForm(Form):
    """A number, the tag of its source, and between what the truth is expected to lie where that is known."""

    value: float
    source: str
    low: float | None = None
    high: float | None = None

    @model_validator(mode="after")
    def _value_lies_between(self) -> FactForm:
        low = self.value if self.low is None else self.low
        high = self.value if self.high is None else self.high
        if not low <= self.value <= high or (low < 0 <= self.value):
            raise broken(f"must have 0 <= low <= value <= high, got {low}, {self.value}, {high}")
        return self


def _given(data: object) -> object:
    """A bare number in a user's own file is a fact whose source is the user."""
    plain = isinstance(data, (int, float)) and not isinstance(data, bool)
    return {"value": data, "source": "given"} if plain else data


def _positive(fact: FactForm) -> FactForm:
    if not fact.value > 0:
        raise broken(f"must be > 0, got {fact.value}")
    return fact


def _not_negative(fact: FactForm) -> FactForm:
    if not fact.value >= 0:
        raise broken(f"must be >= 0, got {fact.value}")
    return fact


def _ratio(fact: FactForm) -> FactForm:
    if not 0 < fact.value <= 1:
        raise broken(f"must be in (0, 1], got {fact.value}")
    return fact


Positive = Annotated[FactForm, BeforeValidator(_given), AfterValidator(_positive)]
NotNegative = Annotated[FactForm, BeforeValidator(_given), AfterValidator(_not_negative)]
Ratio = Annotated[FactForm, BeforeValidator(_given), AfterValidator(_ratio)]


def devices_folder() -> Path:
    """Return the folder of the shipped files: beside the package in a checkout, inside it in a wheel."""
    for folder in (_PACKAGE.parent / "devices", _PACKAGE / "_devices"):
        if (folder / "fleets" / "links.yaml").is_file():  # another "devices" may lie beside an installed package
            return folder
    raise ConfigError(f"no device files beside or in {_PACKAGE}: reinstall cosp, or give paths to your own YAML files")


def names_in(folder: Path) -> tuple[str, ...]:
    return tuple(sorted(path.stem for path in folder.glob("*.yaml")))


def is_path(name: str | Path) -> bool:
    return isinstance(name, Path) or name.endswith((".yaml", ".yml"))


def check_tags(facts: Iterable[tuple[str, FactForm]], sources: Mapping[str, str], *, where: str) -> None:
    """ConfigError unless the file's own ``sources`` explain the tag of every fact."""
    for key, fact in facts:
        if fact.source != "given" and fact.source not in sources:
            raise ConfigError(f"{where}: {key}.source: {unknown('source', fact.source, sources)}; add it to sources")


def facts_of(form: Form) -> list[tuple[str, FactForm]]:
    """Return the facts that stand directly in ``form``, by key."""
    return [(key, value) for key in type(form).model_fields if isinstance(value := getattr(form, key), FactForm)]
