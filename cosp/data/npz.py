"""The user's own data as ``.npz``: ``x`` and ``y`` (N,), with or without ``x_test``, ``y_test``, ``x_val``, ``y_val``.

``x`` is images (N, H, W[, C]), or texts (N, T): integers, the numbers of their words; or series
(N, T[, C]), if the reader is told so. ``y`` is integers or texts.
``classes`` (C,) names labels 0, 1, ...; ``client`` (N,) says whose each sample is; ``vocabulary`` (a number) says that
``x`` is texts of so many words. Any other array is passed over, and a note says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cosp.data.class_names import named_labels, numbered_labels
from cosp.data.columns import CLIENT
from cosp.data.images import Labelled, Source, checked_images
from cosp.data.kinds import SampleKind
from cosp.data.labels import as_texts, check_labels
from cosp.data.series import checked_series
from cosp.data.texts import checked_texts
from cosp.errors import DataError
from cosp.images.faults import first_line
from cosp.images.split_names import ROLES, by_role

Arrays = Mapping[str, NDArray[Any]]


def read_npz(path: Path, *, name: str, client: str | None = None, kind: SampleKind | None = None) -> Source:
    """One file; ``classes`` in it, if any, names labels 0, 1, ...; otherwise the labels that occur are the classes.

    ``client``: the array that says whose each sample is, if that is asked for.
    """
    arrays = read_arrays(path)
    suffixes = {"train": ""}
    suffixes |= {role: f"_{part}" for role, part in by_role(_suffixes(arrays), origin=str(path)).items()}
    words = _vocabulary(arrays, path)
    parts = {role: _samples(arrays, path, suffix, words, kind) for role, suffix in suffixes.items()}
    used = {f"{letter}{suffix}" for letter in "xy" for suffix in suffixes.values()}
    return _source(name, parts, arrays, path, client=client, used=used)


def read_npz_folder(folder: Path, *, name: str, client: str | None = None, kind: SampleKind | None = None) -> Source:
    """``train.npz`` and ``test.npz`` (or ``val.npz``, or both) of a folder, each with ``x`` and ``y``; ``classes``,
    ``client`` and ``vocabulary`` stand in the first.
    """
    files = {path.stem: path for path in sorted(folder.glob("*.npz"))}
    paths = {role: files[stem] for role, stem in by_role(files, origin=str(folder)).items()}
    if not paths.keys() & {"test", "validation"}:
        raise DataError(f"{folder / 'test.npz'}: cannot be read as .npz (it is missing), while train.npz is there")
    arrays = {role: read_arrays(path) for role, path in paths.items()}
    words = _vocabulary(arrays["train"], paths["train"])
    parts = {role: _samples(arrays[role], path, vocabulary=words, kind=kind) for role, path in paths.items()}
    return _source(name, parts, arrays["train"], paths["train"], client=client, used={"x", "y"})


def read_images(path: Path) -> Labelled:
    """``x`` and ``y`` of one file, labels as they stand there."""
    return _samples(read_arrays(path), path)


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """All arrays of ``path``; pickled objects are refused."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}
    except Exception as error:  # a damaged member can raise nearly anything; a plain .npy has no `files`
        raise DataError(
            f"{path}: cannot be read as .npz ({first_line(error)}); write it with numpy.savez(path, x=..., y=...)"
            + ("; texts as np.array([...], dtype=str)" if "allow_pickle" in str(error) else "")
        ) from error


def _suffixes(arrays: Arrays) -> set[str]:
    """``test`` of ``x_test`` or ``y_test``, and so on; training data have none."""
    found = {key[2:] for key in arrays if key[:2] in ("x_", "y_")}
    return {suffix for suffix in found if suffix in ROLES["test"] + ROLES["validation"]}


def _samples(
    arrays: Arrays, path: Path, suffix: str = "", vocabulary: int | None = None, kind: SampleKind | None = None
) -> Labelled:
    for key in (f"x{suffix}", f"y{suffix}"):
        if key not in arrays:
            raise DataError(
                f"{path}: array '{key}' is missing, found {sorted(arrays)}; it needs images x (N, H, W[, C]) or texts "
                "x (N, T), and labels y (N,)"
            )
    x, y = arrays[f"x{suffix}"], as_texts(arrays[f"y{suffix}"], origin=f"{path}: y{suffix}")
    if kind == "series":
        return checked_series(x, y, origin=str(path))
    if kind == "texts" or (kind is None and x.ndim == 2):
        return checked_texts(x, y, origin=str(path), vocabulary=vocabulary, sure=kind == "texts")
    return checked_images(x, y, origin=str(path))


def _vocabulary(arrays: Arrays, path: Path) -> int | None:
    """How many words there are, if the file says so."""
    said = arrays.get("vocabulary")
    if said is None:
        return None
    if said.size != 1 or said.dtype.kind not in "iu" or said.min() < 1:
        raise DataError(f"{path}: 'vocabulary' must be one number >= 1, got {said.dtype} of shape {said.shape}")
    return int(said.item())


def _source(
    name: str, parts: Mapping[str, Labelled], arrays: Arrays, path: Path, *, client: str | None, used: set[str]
) -> Source:
    """A source of ``parts`` by their roles; ``arrays`` are those of the file at ``path``, where ``used`` are read."""
    used = used | {"classes", "vocabulary"}
    train = parts["train"]
    if client is not None:
        train = replace(train, clients=_clients(arrays, path, client, count=len(train)))
        used.add(client)
    classes = arrays.get("classes")
    others = parts.get("test"), parts.get("validation")
    if classes is None:
        source = numbered_labels(name, train, *others)
    else:
        source = named_labels(name, _names(classes, path), train, *others)
    notes = tuple(_unused(key, path) for key in arrays if key not in used)
    return replace(source, vocabulary=_vocabulary(arrays, path), columns=("client",), notes=notes)


def _names(classes: NDArray[Any], path: Path) -> list[str]:
    texts = as_texts(classes, origin=f"{path}: 'classes'")
    if texts.ndim != 1 or texts.dtype.kind != "U":
        raise DataError(f"{path}: 'classes' must be an array of texts (C,), got {classes.dtype} of {classes.shape}")
    return [str(value) for value in texts]


def _clients(arrays: Arrays, path: Path, key: str, *, count: int) -> NDArray[Any]:
    if key not in arrays:
        raise DataError(
            f"{path}: array '{key}' is missing, found {sorted(arrays)}; data.partition.kind column needs it: an "
            "integer or a text (N,) for each training sample, whose it is (data.partition.column names the array)"
        )
    clients = as_texts(arrays[key], origin=f"{path}: {key}")
    check_labels(clients, origin=f"{path}: {key}")
    if len(clients) != count:
        raise DataError(f"{path}: '{key}' must name a client for each of {count} training samples, got {len(clients)}")
    return clients


def _unused(key: str, path: Path) -> str:
    hint = "; data.partition.kind column shares out by it" if key == CLIENT else ""
    return f"{path}: array '{key}' is not used{hint}"
