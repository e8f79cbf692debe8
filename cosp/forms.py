"""YAML forms: how a configuration file is read, and a wrong one reported: one line with file, key, value and rule."""

from __future__ import annotations

import difflib
import re
import reprlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from cosp.errors import ConfigError


class Form(BaseModel):
    """A YAML mapping of known keys."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _only_known_keys(cls, data: Any) -> Any:
        for key in data if isinstance(data, Mapping) else ():
            if key not in cls.model_fields:
                raise broken(unknown("key", key, cls.model_fields))
        return data


AnyForm = TypeVar("AnyForm", bound=Form)


NO_YAML = (yaml.YAMLError, ValueError, AttributeError, RecursionError)
"""What the YAML reader raises: also for 2024-13-45, which looks like a date, and for brackets without end."""


class _Unique(yaml.constructor.SafeConstructor):
    """Refuses a key that a mapping has twice, of which the last would win without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set[str]()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key.value!r} is there twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


class _Loader(_Unique, yaml.SafeLoader):
    """Says best what is wrong, and where."""


class _Fast(_Unique, getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # where libyaml is at hand
    """Reads ten times as fast."""


LARGE = 1 << 14
"""Characters from which on libyaml might be led so deep into brackets that it has no stack left."""

READ_OTHERWISE = re.compile("[\t?\ufeff]|[>|][^ \n]*#")
"""What libyaml takes where PyYAML says that it is wrong, or reads as something else."""


def read(path: Path, form: type[AnyForm]) -> AnyForm:
    """Read a YAML file as ``form``; ConfigError when it cannot be read or does not fit."""
    return parse(load_yaml(path), form, where=str(path))


def load_yaml(path: Path) -> Any:
    """Return what a YAML file holds; ConfigError when it cannot be read."""
    try:
        return yaml_value(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"{path}: cannot be read ({why}); check the path") from None
    except NO_YAML as error:
        why = " ".join(str(error).replace('"<unicode string>", ', "").split())
        raise ConfigError(f"{path}: is not valid YAML: {why}") from None


def yaml_value(text: str) -> Any:
    """Return what ``text`` says; one of ``NO_YAML`` if it is none.

    It is always what PyYAML makes of it, and so are errors; libyaml reads what both read alike.
    """
    if len(text) < LARGE and not READ_OTHERWISE.search(text):
        with suppress(*NO_YAML):
            return yaml.load(text, _Fast)
    return yaml.load(text, _Loader)


def parse(data: object, form: type[AnyForm], *, where: str) -> AnyForm:
    """Check ``data`` against ``form``; ConfigError names ``where``, the key, the value and the rule."""
    try:
        return form.model_validate(data)
    except ValidationError as error:
        first, *others = error.errors(include_url=False)
        key = ".".join(_keys(first["loc"], data, misses=first["type"] == "missing"))
        rest = f" (and {len(others)} more)" if others else ""
        raise ConfigError(": ".join(filter(None, (where, key, _rule(first) + rest)))) from None


def unknown(kind: str, name: object, known: Iterable[str]) -> str:
    """Say that ``name`` is no known ``kind``, which ones are, and which was probably meant."""
    by_lower = {one.lower(): one for one in known}
    close = difflib.get_close_matches(str(name).lower(), by_lower, n=1)
    hint = f"; did you mean {by_lower[close[0]]!r}?" if close else ""
    return f"unknown {kind} {name!r}; known: {', '.join(by_lower.values()) or 'none'}{hint}"


def broken(rule: str) -> PydanticCustomError:
    """Return the error a validator raises so that ``parse`` reports ``rule`` as it stands."""
    return PydanticCustomError("cosp", "{rule}", {"rule": rule})


def _keys(location: Sequence[str | int], data: object, *, misses: bool) -> Iterator[str]:
    """Yield the keys on the way to an error, without the names of union members that pydantic puts between them.

    ``misses``: the last key is one that is missing.
    """
    for i, key in enumerate(location, start=1):
        inside = isinstance(data, Sequence) and isinstance(key, int) and key < len(data)
        if inside or (isinstance(data, Mapping) and key in data):
            yield str(key)
            data = data[key]  # type: ignore[index]
        elif misses and i == len(location):
            yield str(key)


def _rule(error: Any) -> str:
    if error["type"] == "cosp":
        return str(error["msg"])
    if error["type"] == "unexpected_keyword_argument":
        return "is an unknown key"
    if error["type"] == "missing":
        return "is missing"
    if error["type"] == "union_tag_not_found":
        return f"{error['ctx']['discriminator']} is missing, which says what the others are"
    if error["type"] == "union_tag_invalid":
        known = (tag.strip("'") for tag in error["ctx"]["expected_tags"].split(", "))
        return unknown(error["ctx"]["discriminator"].strip("'"), error["ctx"]["tag"], known)
    if error["type"] in ("model_type", "model_attributes_type"):
        return f"must be a mapping of keys to values, got {reprlib.repr(error['input'])}"
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])
    return f"{error['msg']}, got {reprlib.repr(error['input'])}".replace("Input should", "must", 1)
