"""From what a configuration names to a folder or file here: a path, or a name on the Hugging Face hub."""

from __future__ import annotations

import re
from pathlib import Path

from cosp.errors import ConfigError

NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
BESIDE = ["*.json", "*.txt", "*.model", "1_Pooling/*", "2_Dense/*"]
"""What a model's folder holds beside its weights: settings and vocabularies, all small."""
WEIGHTS = (["model*.safetensors"], ["pytorch_model*.bin"])


def local(path_or_name: str) -> Path:
    """Return where a model lies, fetched from the hub if it is no path; ConfigError if it is neither."""
    path = Path(path_or_name).expanduser()
    if path.exists():
        return path
    if not NAME.fullmatch(path_or_name) or path_or_name.startswith("."):
        raise ConfigError(f"model.pretrained: there is no {path_or_name}; give a folder with config.json and weights")
    return _fetched(path_or_name)


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
