"""Files of tensors, read without running anything that they hold: safetensors, and torch's own by weights alone."""

from __future__ import annotations

import json
import pickle
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import safe_open

from cosp.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

SAFE, PICKLED = ".safetensors", (".bin", ".pt", ".pth")
SUFFIXES = (SAFE, *PICKLED)
NAMES = ("model.safetensors", "pytorch_model.bin", "model.pt")
INSIDE = ("model", "state_dict")
"""Keys under which training scripts keep the state of a model beside other things."""


class Tensors:
    """The named tensors of some files: shapes at once, values when they are asked for."""

    def __init__(self, path: Path, shapes: Mapping[str, tuple[int, ...]], read: Callable[[str], Tensor]) -> None:
        self.path = path
        self.shapes = dict(shapes)
        self._read = read

    def __getitem__(self, name: str) -> Tensor:
        """Return a tensor in float32; ConfigError if its values are none of a model."""
        tensor = self._read(name)
        if not tensor.is_floating_point():
            raise ConfigError(f"{self.path}: {name} holds {tensor.dtype}, not floating-point numbers: it is compressed")
        tensor = tensor.to(torch.float32)
        if not bool(torch.isfinite(tensor).all()):
            raise ConfigError(f"{self.path}: {name} holds NaN or infinity: the file is damaged")
        return tensor


def weights_in(folder: Path) -> Path:
    """Return the file of a folder that holds the model's tensors, or says which files do."""
    for name in NAMES:
        for path in (folder / name, folder / f"{name}.index.json"):
            if path.is_file():
                return path
    raise ConfigError(f"{folder}: holds no weights: there must be one of {', '.join(NAMES)}")


def open_tensors(path: Path) -> Tensors:
    """Return what ``path`` holds; ConfigError if it cannot be read, or not without running code of its own."""
    if path.suffix == ".json":
        return _joined(path)
    try:
        return _safe(path) if path.suffix == SAFE else _pickled(path)
    except ConfigError:
        raise
    except Exception as error:  # a damaged file makes its reader raise anything
        raise ConfigError(f"{path}: cannot be read ({_line(error)}); fetch the file again") from None


def _safe(path: Path) -> Tensors:
    with safe_open(path, "pt") as file:
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118

    def read(name: str) -> Tensor:
        with safe_open(path, "pt") as file:
            found: Tensor = file.get_tensor(name)
            return found

    return Tensors(path, shapes, read)


def _pickled(path: Path) -> Tensors:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what it then refuses, or reads all the same
            found: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError:
        raise ConfigError(
            f"{path}: holds Python code beside tensors, which is never run; take the model's .safetensors, or save its "
            "state_dict alone"
        ) from None
    for key in INSIDE:
        found = found[key] if isinstance(found, dict) and isinstance(found.get(key), dict) else found
    if not isinstance(found, dict):
        raise ConfigError(f"{path}: must hold a state_dict, tensors by name, got {type(found).__name__}")
    state = {str(name): tensor for name, tensor in found.items() if isinstance(tensor, torch.Tensor)}
    return Tensors(path, {name: tuple(tensor.shape) for name, tensor in state.items()}, state.__getitem__)


def _joined(index: Path) -> Tensors:
    """Return the tensors of several files, of which ``index`` says what each holds."""
    try:
        where = {str(name): str(file) for name, file in json.loads(index.read_text("utf-8"))["weight_map"].items()}
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise ConfigError(f"{index}: cannot be read ({_line(error)}); fetch the file again") from None
    for file in where.values():
        if Path(file).name != file or Path(file).suffix not in SUFFIXES:
            raise ConfigError(f"{index}: {file!r} is no file of tensors beside it")
    files = {file: open_tensors(index.parent / file) for file in sorted(set(where.values()))}
    for name, file in where.items():
        if name not in files[file].shapes:
            raise ConfigError(f"{index.parent / file}: {name} is missing, which {index.name} says it holds")
    return Tensors(
        index, {name: files[file].shapes[name] for name, file in where.items()}, lambda n: files[where[n]][n]
    )


def _line(error: BaseException) -> str:
    """Return an error's first line, short."""
    return str(error).split("\n", 1)[0][:200] or type(error).__name__
