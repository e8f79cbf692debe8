"""A pretrained model as it lies on the disk: its architecture, read, and its tensors, to be read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from cosp.checkpoints.architecture import Architecture, Words
from cosp.checkpoints.continued import open_continued
from cosp.checkpoints.families import Config, Family
from cosp.checkpoints.hub import local
from cosp.checkpoints.own import Likeness, final_model, own_folder
from cosp.checkpoints.sentences import is_averaged, read_json, with_head
from cosp.checkpoints.tensors import SUFFIXES, Tensors, open_tensors, weights_in
from cosp.checkpoints.text import BERT, DISTILBERT, ROBERTA
from cosp.checkpoints.vision import DEIT, TIMM, VIT, timm_config
from cosp.errors import ConfigError
from cosp.forms import unknown

RUN = "rows.jsonl"
"""What a run's directory holds, and no other folder."""

FAMILIES = {family.name: family for family in (VIT, DEIT, BERT, ROBERTA, DISTILBERT)}
"""Those that a ``config.json`` names; timm's files are known by their tensors."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """``source`` is what the configuration named, ``path`` the file of weights.

    ``likeness``: as what family it was first read, of which an export makes one again.
    """

    source: str
    folder: Path
    family: Family
    architecture: Architecture
    tensors: Tensors
    likeness: Likeness | None = None

    @property
    def path(self) -> Path:
        return self.tensors.path


def open_checkpoint(path_or_name: str) -> Checkpoint:
    """Return what a path or a name on the hub holds; ConfigError if that is no model of a family known here."""
    found = local(path_or_name)
    if (own := own_folder(found)) is not None or (found / RUN).is_file():
        return _continued(path_or_name, own or final_model(found))
    if found.is_dir():
        config, tensors = read_json(found / "config.json"), open_tensors(weights_in(found))
    elif found.suffix in SUFFIXES:
        config, tensors = {}, open_tensors(found)
    else:
        raise ConfigError(f"model.pretrained: {found} is no folder, and no file of {', '.join(SUFFIXES)}")
    folder = found if found.is_dir() else found.parent
    family, architecture = _architecture(config, tensors, folder)
    return Checkpoint(
        source=path_or_name,
        folder=folder,
        family=family,
        architecture=architecture,
        tensors=with_head(folder, tensors, family),
        likeness=_likeness(architecture),
    )


def _continued(source: str, folder: Path) -> Checkpoint:
    facts, family, architecture, tensors = open_continued(folder)
    return Checkpoint(
        source=source,
        folder=folder,
        family=family,
        architecture=architecture,
        tensors=tensors,
        likeness=facts.likeness,
    )


def _likeness(architecture: Architecture) -> Likeness:
    inputs = architecture.inputs
    if isinstance(inputs, Words):
        return Likeness(family=architecture.family, first=inputs.first, segments=inputs.segments)
    return Likeness(family=architecture.family)


def _architecture(config: Config, tensors: Tensors, folder: Path) -> tuple[Family, Architecture]:
    kind = config.get("model_type")
    if kind is None and (not config or "architecture" in config):  # as timm writes it
        try:
            return TIMM, TIMM.architecture(timm_config(tensors.shapes))
        except ConfigError as error:
            raise ConfigError(f"{tensors.path}: {error}") from None
    if kind not in FAMILIES:
        raise ConfigError(f"{folder / 'config.json'}: model_type: {unknown('family', kind, FAMILIES)}")
    try:
        architecture = FAMILIES[kind].architecture(config)
    except KeyError as error:
        raise ConfigError(f"{folder / 'config.json'}: {error.args[0]} is missing, which a {kind} has") from None
    except (ConfigError, TypeError, ValueError) as error:
        raise ConfigError(f"{folder}: {error}") from None
    for name in ("dim", "blocks", "heads", "hidden"):
        if not isinstance(value := getattr(architecture, name), int) or value < 1:
            raise ConfigError(f"{folder / 'config.json'}: the {kind}'s {name} must be a count, got {value!r}")
    return FAMILIES[kind], replace(architecture, pooling="mean") if is_averaged(folder) else architecture
