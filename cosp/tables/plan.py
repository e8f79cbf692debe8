"""What a table consists of: the file's ``table:`` section, and the cells that it asks for.

A cell is one run. What makes it is the file changed by a level of the grid, a variant, values of the search, ``--set``
and a seed; ``key`` is the hash of all that, so a result is known again wherever it lies.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from cosp.config import BASE, Config, check_name, checked, pair_of, raw_config, set_key, variant_names
from cosp.errors import ConfigError
from cosp.forms import broken, load_yaml, parse, unknown
from cosp.methods.rules import Settings

SECTION = "table"
NO_PART_OF_A_RESULT = ("name", "title", "variant", "versions")
"""Keys of a configuration that its rows do not depend on."""


def _different(seeds: tuple[int, ...]) -> tuple[int, ...]:
    if len(set(seeds)) < len(seeds):
        raise broken(f"must differ, got {list(seeds)}")
    return seeds


Seeds = Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1), AfterValidator(_different)]
Search = dict[str, Annotated[tuple[Any, ...], Field(min_length=1)]]


class TableSettings(Settings):
    """The section ``table:``. ``seeds_of`` maps a variant to seeds of its own. ``search`` maps a dotted key to the
    values that every variant is tried with on ``search_seed`` (None: the first of ``seeds``), ``search_of`` a variant
    to a search of its own in place of that. ``grid`` maps an axis to its levels, a level to dotted keys and values;
    ``table.target_accuracy`` may be one. ``reference`` is the variant that all others are compared with.
    ``lengths_s`` are virtual times by which accuracy is told, beside that at the end.
    """

    seeds: Seeds = (0, 1, 2)
    seeds_of: dict[str, Seeds] = {}
    target_accuracy: float | None = Field(None, gt=0, lt=1)
    search: Search = {}
    search_of: dict[str, Search] = {}
    search_seed: int | None = Field(None, ge=0)
    grid: dict[str, Annotated[dict[str, dict[str, Any]], Field(min_length=1)]] = {}
    reference: str = BASE
    lengths_s: tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...] = ()


@dataclass(frozen=True)
class Level:
    """A cell of the grid: one table. ``name`` is empty where there is no grid."""

    name: str
    changes: Mapping[str, Any]
    target_accuracy: float | None


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One run of the table. ``settings`` are the values of the search, e.g. "training.learning_rate=0.002"."""

    level: str
    variant: str
    settings: str
    seed: int
    config: Config
    key: str

    @property
    def name(self) -> str:
        """Return where the cell's run lies below the folder of runs; unique within a table."""
        parts = (self.level, self.variant, self.settings.replace(" ", ","), f"seed{self.seed}")
        return "/".join(filter(None, parts))


@dataclass(frozen=True, kw_only=True)
class TablePlan:
    """A table as it was asked for."""

    path: Path
    settings: TableSettings
    levels: tuple[Level, ...]
    variants: tuple[str, ...]
    """Those that were asked for, the base and the reference among them."""
    all_levels: tuple[str, ...]
    all_variants: tuple[str, ...]
    asked_seeds: tuple[int, ...] | None
    """In place of the file's."""
    overrides: tuple[str, ...]
    """Of every cell's configuration."""

    @property
    def seeds(self) -> tuple[int, ...]:
        return self.asked_seeds or self.settings.seeds

    def seeds_of(self, variant: str) -> tuple[int, ...]:
        return self.asked_seeds or self.settings.seeds_of.get(variant, self.settings.seeds)

    @property
    def seeds_text(self) -> str:
        """Return the seeds in words, with the variants that have others."""
        variants: dict[tuple[int, ...], list[str]] = {self.seeds: []}
        for variant in self.variants:
            variants.setdefault(self.seeds_of(variant), []).append(variant)
        first, *others = ((", ".join(map(str, seeds)), names) for seeds, names in variants.items())
        return "; ".join([first[0], *(f"{seeds} of {', '.join(names)}" for seeds, names in others)])

    @property
    def search_seed(self) -> int:
        return self.seeds[0] if self.settings.search_seed is None else self.settings.search_seed

    def candidates(self, variant: str) -> list[Mapping[str, Any]]:
        """Return all combinations of the searched values; one without any, if there is nothing to search."""
        search = self.settings.search_of.get(variant, self.settings.search)
        return [dict(zip(search, values, strict=True)) for values in itertools.product(*search.values())]

    def edges(self, variant: str, chosen: Mapping[str, Any]) -> list[str]:
        """Return the searched keys whose chosen value is the first or last that was tried: beyond may lie better."""
        search = self.settings.search_of.get(variant, self.settings.search)
        return [key for key, tried in search.items() if len(tried) > 1 and chosen[key] in (tried[0], tried[-1])]

    def cell(self, level: Level, variant: str, settings: Mapping[str, Any], seed: int) -> Cell:
        """Return one cell; ConfigError if its configuration is wrong."""
        choice = [] if variant == BASE else [f"variant={variant}"]
        overrides = [*choice, *self.overrides, f"seed={seed}"]
        value = raw_config(self.path, overrides, levels=level.changes, settings=settings)
        parts = (str(self.path), level.name, variant if choice else "")
        return Cell(
            level=level.name,
            variant=variant,
            settings=" ".join(f"{key}={new}" for key, new in settings.items()),
            seed=seed,
            config=checked(value, ": ".join(filter(None, parts))),
            key=_hash(value),
        )


def has_table(path: Path) -> bool:
    """Tell whether the file has a section ``table:``."""
    value = load_yaml(path)
    return isinstance(value, dict) and SECTION in value


def plan_table(
    path: Path,
    *,
    only: Sequence[str] | None = None,
    at: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
    overrides: Sequence[str] = (),
) -> TablePlan:
    """Read a table's file; ConfigError if anything that it asks for is wrong, whichever cell that concerns.

    ``only`` names variants, ``at`` levels of the grid; None: all of them. ``overrides`` of the table's own section are
    ``table.KEY=VALUE``.
    """
    of_table = [text for text in overrides if text.startswith(f"{SECTION}.")]
    found = load_yaml(path)
    value = {SECTION: (found.get(SECTION) if isinstance(found, dict) else None) or {}}
    for key, new in map(pair_of, of_table):
        set_key(value, key, new, where="--set")
    settings = parse(value[SECTION], TableSettings, where=f"{path}: {SECTION}")
    known = (BASE, *variant_names(path))
    for name in (*(only or ()), *settings.seeds_of, *settings.search_of, settings.reference):
        if name not in known:
            raise ConfigError(f"{path}: {unknown('variant', name, known)}")
    levels = {level.name: level for level in _levels(settings, f"{path}: {SECTION}.grid")}
    for name in at or ():
        if not settings.grid:
            raise ConfigError(f"--at {name}: {path} has no grid; leave --at out")
        if name not in levels:
            raise ConfigError(f"{path}: {unknown('level of the grid', name, tuple(levels))}")
    plan = TablePlan(
        path=path,
        settings=settings,
        levels=tuple(level for name, level in levels.items() if at is None or name in at),
        variants=tuple(dict.fromkeys((BASE, settings.reference, *only) if only else known)),
        all_levels=tuple(levels),
        all_variants=known,
        asked_seeds=tuple(seeds) if seeds else None,
        overrides=tuple(text for text in overrides if text not in of_table),
    )
    for level, variant in itertools.product(plan.levels, plan.variants):
        for candidate in plan.candidates(variant):
            plan.cell(level, variant, candidate, plan.seeds[0])
    return plan


def _levels(settings: TableSettings, where: str) -> list[Level]:
    """Return one level for each combination of the axes' levels; ConfigError if two have one name."""
    found: list[Level] = []
    for chosen in itertools.product(*(axis.items() for axis in settings.grid.values())):
        changes = {key: new for _, level in chosen for key, new in level.items()}
        target = changes.pop(f"{SECTION}.target_accuracy", settings.target_accuracy)
        parse({"target_accuracy": target}, TableSettings, where=where)
        level = Level("-".join(name for name, _ in chosen), changes, target)
        if chosen:
            check_name(level.name, where)
        if any(level.name == other.name for other in found):
            raise ConfigError(f"{where}: two levels are called {level.name}; rename one")
        found.append(level)
    return found


def _hash(value: Mapping[str, Any]) -> str:
    told = {key: new for key, new in value.items() if key not in NO_PART_OF_A_RESULT}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]
