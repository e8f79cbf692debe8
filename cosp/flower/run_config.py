"""What ``flwr run --run-config`` says: which experiment, which data, where to."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from flwr.app import UserConfig

from cosp.config import load_config
from cosp.errors import ConfigError
from cosp.experiment import Experiment, load_experiment


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where an experiment comes from."""

    config: Path
    data_dir: Path | None
    overrides: tuple[str, ...]


def source_of(run_config: UserConfig) -> Source:
    """Read ``config``, ``data-dir`` and ``set`` (``key=value`` by spaces); ConfigError if they cannot be read.

    Without ``data-dir`` the environment's COSP_DATA_DIR counts, as on the command line.

    A value with spaces stands in quotes, as in a shell.
    """
    config, data_dir = _path(run_config, "config"), _path(run_config, "data-dir", os.environ.get("COSP_DATA_DIR", ""))
    if config is None:
        raise ConfigError("""run config: config is missing; add --run-config 'config="/path/to/experiment.yaml"'""")
    try:
        overrides = tuple(shlex.split(str(run_config.get("set", ""))))
    except ValueError as error:
        raise ConfigError(f"run config: set: {run_config['set']!r} cannot be split: {error}") from None
    return Source(config=config, data_dir=data_dir, overrides=overrides)


def out_folder(run_config: UserConfig) -> Path:
    """Read ``out``, the run directory; ConfigError if it is not there."""
    out = _path(run_config, "out")
    if out is None:
        raise ConfigError("""run config: out is missing; add --run-config 'out="/path/to/run/directory"'""")
    return out


@lru_cache(maxsize=1)
def experiment_from(source: Source) -> Experiment:
    """Read the experiment, once in a process: Flower's simulation runs many clients in each."""
    return load_experiment(load_config(source.config, source.overrides), data_dir=source.data_dir)


def _path(run_config: UserConfig, key: str, default: str = "") -> Path | None:
    """Return an absolute path, None if there is none; Flower runs apps in a folder of its own."""
    text = str(run_config.get(key, "")) or default
    path = Path(text).expanduser()
    if text and not path.is_absolute():
        raise ConfigError(f"run config: {key}: must be an absolute path, got {text!r}")
    return path if text else None
