"""The user's own images as files in folders named after their classes; ``class_folders`` says what may stand above.

Images of one size are taken as they are, others are resized to ``image_size`` squares (aspect ratio not kept).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from cosp.data.class_names import named_labels
from cosp.data.image_files import ImageFiles
from cosp.data.images import Labelled, Source, checked_images
from cosp.images.class_folders import Found, class_names, images_below, split_folders, strangers_beside, subfolders
from cosp.images.decoder import Shape, common_shape

SHUFFLE_SEED = 0  # files come class by class; without this, the first 1000 images would be of one class


def read_folder(
    folder: Path, *, name: str, image_size: int | None, stream: bool = False, by_client: bool = False
) -> Source:
    """All images below ``folder``, in an order shuffled once for all; DataError names the file that does not fit.

    With ``stream`` they stay in their files. With ``by_client`` the folders above the class folders are clients.
    """
    folders = split_folders(folder)
    classes = class_names(folders["train"], by_client=by_client)
    unlabelled = [path for role, path in folders.items() if role != "train" and not subfolders(path)]
    files = {
        role: images_below(path, classes, by_client=by_client)
        for role, path in folders.items()
        if path not in unlabelled
    }
    paths = [found.path for part in files.values() for found in part]
    shape = common_shape(((str(path), path) for path in paths), image_size)
    parts = {role: _labelled(part, shape, origin=str(folders[role]), stream=stream) for role, part in files.items()}
    source = named_labels(name, classes, parts["train"], parts.get("test"), parts.get("validation"))
    notes = [f"{path}: is not used, it has no folders named after classes" for path in unlabelled]
    notes += [f"{path}: is not used, its name is that of no split" for path in strangers_beside(folders, folder)]
    return replace(source, resizable=True, columns=("client",), notes=tuple(notes))


def _labelled(files: Sequence[Found], shape: Shape, *, origin: str, stream: bool) -> Labelled:
    order = np.random.default_rng(SHUFFLE_SEED).permutation(len(files))
    chosen = [files[place] for place in order]
    x = ImageFiles(paths=tuple(found.path for found in chosen), image=shape)
    labels = np.array([found.label for found in chosen], np.int64)
    clients = np.array([found.client for found in chosen]) if chosen[0].client is not None else None
    if stream:
        return Labelled(x=x, y=labels, origin=origin, clients=clients)
    return replace(checked_images(np.asarray(x), labels, origin=origin), clients=clients)
