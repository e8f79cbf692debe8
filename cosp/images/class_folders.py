"""What lies where in a folder of images: its splits, its clients, its classes, its files. Nothing is decoded here.

    [train/ test/ val/]  [CLIENT/]  CLASS/  images

What begins with a dot, and what systems put beside people's files, is passed over.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Iterator, List, Mapping, Optional, Sequence

from cosp.errors import DataError
from cosp.images.split_names import by_role, role_of

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
OF_SYSTEMS = frozenset(
    {
        "lost+found",
        "$recycle.bin",
        "recycler",
        "system volume information",
        "__macosx",
        "@eadir",
        "#recycle",
        "@recycle",
    }
)
"""Folders of Linux, Windows, macOS and network drives, in lower case."""


@dataclass(frozen=True)
class Found:
    """An image's file, its class's number, and the folder of the client that it is of, where there are such."""

    path: Path
    label: int
    client: Optional[str]


def split_folders(folder: Path) -> Dict[str, Path]:
    """The folder of each split; of the training data alone where ``folder`` holds classes, not splits."""
    names = subfolders(folder)
    splits = [name for name in names if role_of(name)]
    trains = [name for name in splits if role_of(name) == "train"]
    if not any(subfolders(folder / name) for name in trains) and len(splits) < len(names):
        return {"train": folder}  # then a class may be called train, too
    found = {role: folder / name for role, name in by_role(splits, origin=str(folder)).items()}
    if found and "train" not in found:
        raise DataError(f"{folder}: holds {', '.join(splits)}, but no train/; name the training images' folder so")
    return found or {"train": folder}


def strangers_beside(splits: Mapping[str, Path], folder: Path) -> List[Path]:
    """The folders in ``folder`` that are none of its ``splits``; none where it holds classes, not splits."""
    if splits["train"] == folder:
        return []
    return [folder / name for name in subfolders(folder) if folder / name not in splits.values()]


def subfolders(folder: Path) -> List[str]:
    """Names of the folders in it that are the user's, sorted."""
    return sorted(entry.name for entry in folder.iterdir() if _is_the_user_s(entry.name) and entry.is_dir())


def class_names(folder: Path, *, by_client: bool) -> List[str]:
    """The classes of one split, sorted; DataError if there are none."""
    found = {name for above in _class_parents(folder, by_client) for name in subfolders(above)}
    if not found:
        below = "in its folders, which are clients (data.partition.kind column)" if by_client else "in it"
        raise DataError(f"{folder}: no folders named after classes {below}, and no train.npz or saved data set either")
    return sorted(found)


def images_below(folder: Path, classes: Sequence[str], *, by_client: bool) -> List[Found]:
    """The images of one split; other files are passed over. DataError names a class that is none of ``classes``, or
    that is empty.
    """
    found: List[Found] = []
    for above in _class_parents(folder, by_client):
        names = subfolders(above)
        strangers = sorted(set(names) - set(classes))
        if strangers:
            raise DataError(f"{above / strangers[0]}: this class has no folder in the training data")
        for name in names:
            client = above.name if by_client else None
            found += [Found(path, classes.index(name), client) for path in _images(above / name)]
    return found


def _class_parents(folder: Path, by_client: bool) -> List[Path]:
    return [folder / name for name in subfolders(folder)] if by_client else [folder]


def _images(folder: Path) -> Iterator[Path]:
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and _is_the_user_s(path.name))
    if not paths:
        raise DataError(f"{folder}: no images in this class folder ({', '.join(sorted(SUFFIXES))})")
    return iter(paths)


def _is_the_user_s(name: str) -> bool:
    return not name.startswith(".") and name.lower() not in OF_SYSTEMS
