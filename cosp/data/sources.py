"""From the name or path in a config to a data set."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cosp.data.columns import Columns
from cosp.data.dataset import Dataset, prepare
from cosp.data.folder import read_folder
from cosp.data.huggingface import is_saved, read_named, read_saved
from cosp.data.images import Source
from cosp.data.kinds import SampleKind, check_kind, kind_of
from cosp.data.npz import read_npz, read_npz_folder
from cosp.data.raw_texts import RawTexts
from cosp.data.splits import Sizes
from cosp.data.standard import CLASSES, read_standard
from cosp.data.text_files import SUFFIXES, UNPACK, is_table
from cosp.data.text_sets import TEXT_SETS, read_text_set
from cosp.data.text_source import read_text_file, read_text_folder
from cosp.data.wording import Wording
from cosp.errors import DataError

HUB_PREFIX = "hf:"
KNOWN = (*CLASSES, *TEXT_SETS)
FOUND = Columns()
BY_DEFAULT = Wording()
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


def load_dataset(
    name_or_path: str,
    *,
    data_dir: Path | None = None,
    seed: int = 0,
    sizes: Sizes | None = None,
    image_size: int | None = None,
    stream: bool = False,
    columns: Columns = FOUND,
    wording: Wording = BY_DEFAULT,
    kind: SampleKind | None = None,
) -> Dataset:
    """Read, check, split and normalise a data set; DataError (one line) if it is missing or malformed.

    ``name_or_path``: ``digits``, ``mnist``, ``fashion_mnist``, ``cifar10``, ``ag_news``, ``sst2``, ``20newsgroups``; a
    ``.npz``, ``.csv``, ``.tsv``, ``.jsonl`` or ``.parquet`` file; a folder with ``train`` and ``test`` so, with
    class-named image folders, or written by Hugging Face's ``save_to_disk`` (paths hold from the current folder, else
    from ``data_dir``); ``hf:OWNER/NAME``, or ``OWNER/NAME`` if no such path exists. ``data_dir``: where the files are,
    by default the environment's COSP_DATA_DIR. ``seed`` draws the validation split, never the test split.
    ``image_size``: resize images that come as files to squares of this side. ``stream``: leave a folder's images in
    their files and decode them batch by batch. ``columns``: which hold what. ``wording``: how
    texts become words. ``kind``: what samples are; by default (N, T) of an ``.npz`` are texts and (N, H, W[, C])
    images, nothing is series.
    """
    if image_size is not None and image_size < 1:
        raise ValueError(f"image_size must be >= 1, got {image_size}")
    if data_dir is None and os.environ.get("COSP_DATA_DIR"):
        data_dir = Path(os.environ["COSP_DATA_DIR"])
    with _readable(name_or_path):
        if data_dir is not None and not data_dir.is_dir():
            raise DataError(
                f"{data_dir}: the data folder must exist; give another with --data-dir DIR or COSP_DATA_DIR"
            )
    source = read_source(
        name_or_path, data_dir=data_dir, image_size=image_size, stream=stream, columns=columns, kind=kind
    )
    columns.refuse_unread(source.columns, source.name)
    if image_size is not None and not source.resizable:
        raise DataError(
            f"data.image_size: resizes images that come as files, {source.name} has arrays: leave it out, and resize "
            "them before they are written"
        )
    if not isinstance(source.train.x, RawTexts):
        found = kind_of(source.train.x.shape[1:])
        wording.refuse(source.name, "texts that are word numbers already" if found == "texts" else found)
    return prepare(source, sizes=sizes or Sizes(), seed=seed, wording=wording)


def read_source(
    name: str,
    *,
    data_dir: Path | None,
    image_size: int | None,
    stream: bool = False,
    columns: Columns = FOUND,
    kind: SampleKind | None = None,
) -> Source:
    """Read what ``load_dataset`` would, as it is; DataError names a file or folder that the system gives not out."""
    with _readable(name):
        source = _read(name, data_dir, image_size, stream, columns, kind)
    check_kind(source.train.x.shape[1:], kind, origin=source.train.origin)
    return source


@contextmanager
def _readable(name: str) -> Iterator[None]:
    """Turn what the system says of a file or folder into a DataError that names it."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{error.filename or name}: cannot be read ({error.strerror or error}); give this user the right to read "
            "it, or take it out of the data"
        ) from error


def _read(
    name: str,
    data_dir: Path | None,
    image_size: int | None,
    stream: bool,
    columns: Columns,
    kind: SampleKind | None,
) -> Source:
    if stream:
        return _read_streamed(name, data_dir=data_dir, image_size=image_size, columns=columns)
    texts = _read_texts(name, data_dir, columns)
    if texts is not None:
        return texts
    standard = name.lower().replace("-", "_")
    if standard in CLASSES:
        return read_standard(standard, data_dir=data_dir)
    if name.startswith(HUB_PREFIX):
        return read_named(name.removeprefix(HUB_PREFIX), name=name, image_size=image_size, columns=columns)
    path = _local(name, data_dir)
    if path is not None:
        return _read_path(path, image_size=image_size, columns=columns, kind=kind)
    if _HUB_NAME.fullmatch(name) and not name.endswith((".npz", *SUFFIXES, *UNPACK)):
        return read_named(name, name=name, image_size=image_size, columns=columns)
    raise _missing(name, data_dir)


def _read_texts(name: str, data_dir: Path | None, columns: Columns) -> Source | None:
    """Texts in tables: of a set known by name, in a file, in a folder of files; None if it is something else."""
    standard = name.lower().replace("-", "_")
    if standard in TEXT_SETS:
        return read_text_set(standard, data_dir=data_dir, columns=columns)
    path = _local(name, data_dir)
    if path is None or standard in CLASSES:
        return None
    if path.is_file():
        return read_text_file(path, name=path.name.partition(".")[0], columns=columns) if is_table(path) else None
    return None if _has_others(path, columns) else read_text_folder(path, name=path.name, columns=columns)


def _has_others(folder: Path, columns: Columns) -> bool:
    """Whether tables in ``folder`` are beside the data: arrays, folders of images. A saved set is read as such."""
    beside = (folder / "train.npz").is_file() or any(entry.is_dir() for entry in folder.iterdir())
    return is_saved(folder) or (columns.text is None and beside)


def _read_streamed(name: str, *, data_dir: Path | None, image_size: int | None, columns: Columns) -> Source:
    path = _local(name, data_dir)
    if path is not None and path.is_dir() and not (path / "train.npz").is_file() and not is_saved(path):
        return _read_folder(path, image_size=image_size, stream=True, columns=columns)
    if path is None and name.lower().replace("-", "_") not in KNOWN:
        raise _missing(name, data_dir)
    raise DataError(
        f"{name}: data.stream reads images from folders named after their classes, and this is something else; "
        "leave data.stream out"
    )


def _missing(name: str, data_dir: Path | None) -> DataError:
    where = f" or {data_dir / name}" if data_dir is not None else ""
    return DataError(
        f"{name}: neither a known data set ({', '.join(KNOWN)}) nor a file or folder: there is no "
        f"{Path(name).absolute()}{where}; give a path, --data-dir DIR, or {HUB_PREFIX}OWNER/NAME with network"
    )


def _local(name: str, data_dir: Path | None) -> Path | None:
    candidates = [Path(name)] if data_dir is None else [Path(name), data_dir / name]
    return next((path for path in candidates if path.exists()), None)


def _read_path(path: Path, *, image_size: int | None, columns: Columns, kind: SampleKind | None) -> Source:
    if path.is_file():
        if path.suffix != ".npz":
            raise DataError(
                f"{path}: a data file must end in .npz (x, y), or {', '.join(SUFFIXES)} (texts); folders of images and "
                "saved data sets work too"
            )
        return read_npz(path, name=path.stem, client=columns.client, kind=kind)
    if (path / "train.npz").is_file():
        return read_npz_folder(path, name=_name(path), client=columns.client, kind=kind)
    if is_saved(path):
        return read_saved(path, name=_name(path), image_size=image_size, columns=columns)
    return _read_folder(path, image_size=image_size, stream=False, columns=columns)


def _name(path: Path) -> str:
    return path.name or path.resolve().name  # of ".", too


def _read_folder(path: Path, *, image_size: int | None, stream: bool, columns: Columns) -> Source:
    by_client = columns.client is not None
    return read_folder(path, name=_name(path), image_size=image_size, stream=stream, by_client=by_client)
