"""Which columns of a table hold what: as the user says, else images found by their types, texts by their names."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from cosp.errors import DataError

CLIENT = "client"
"""The column or array that says whose a sample is, unless another is named."""


Strip = Literal["headers", "nothing"]
OF_IMAGES = ("image", "label", "client")
OF_TEXTS = ("label", "client", "text", "text_pair", "names", "strip")
KEYS = {"client": "partition.column", "names": "columns"}
"""The key in ``data`` that names a column, where it is not called as the field is."""


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Names of columns; None: found. ``client`` is None unless the data are to be shared out by it.

    ``text`` and ``text_pair`` become one sample; None takes the data set's own, else ``text``, and no second one.
    ``names`` are those of all columns of a file without a header line. ``strip`` "headers" leaves of mails and news
    posts the subject and the body.
    """

    image: str | None = None
    label: str | None = None
    client: str | None = None
    text: str | None = None
    text_pair: str | None = None
    names: tuple[str, ...] | None = None
    strip: Strip | None = None

    def given(self) -> dict[str, Any]:
        """Return what is said, by field."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}

    def refuse_unread(self, read: Collection[str], name: str) -> None:
        """DataError if a column is named, but the reader of ``name`` chooses only those of ``read``."""
        for field, chosen in self.given().items():
            if field not in read:
                named = chosen if isinstance(chosen, str) else list(chosen)
                key = "data.partition.kind column" if field == "client" else f"data.{KEYS.get(field, field)} = {named}"
                raise DataError(f"{key} does not go with {name}, which has no such columns; leave it out")


@dataclass(frozen=True, kw_only=True)
class ChosenColumns:
    """The columns of one set that are read."""

    image: str
    label: str
    client: str | None


def chosen_columns(features: Mapping[str, Any], columns: Columns, *, origin: str) -> ChosenColumns:
    """The columns that hold images and labels among ``features``, as Hugging Face declares them.

    Found by type: the one column of images; the one ClassLabel, or if there is none the one other column of integers
    or of texts. DataError if there are none or several, or if the one that is named does not suit.
    """
    fits = _is_image if columns.image is None else _may_be_images
    image = _chosen(features, columns.image, fits, key="data.image", kind="images", origin=origin)
    others = {name: feature for name, feature in features.items() if name != image}
    kind = "labels (ClassLabel, integers or texts)"
    found = columns.label
    if found is None:
        declared = [name for name, feature in others.items() if _is_class_label(feature)]
        found = declared[0] if len(declared) == 1 else None
        others = {name: others[name] for name in declared or others if name != columns.client}
    label = _chosen(others, found, _is_label, key="data.label", kind=kind, origin=origin)
    if columns.client is not None:
        key = "data.partition.column"
        _chosen(features, columns.client, _is_label, key=key, kind="clients (integers or texts)", origin=origin)
    return ChosenColumns(image=image, label=label, client=columns.client)


def _chosen(
    features: Mapping[str, Any], name: str | None, fits: Callable[[Any], bool], *, key: str, kind: str, origin: str
) -> str:
    """``name``, or the one feature that fits; DataError names the key that chooses."""
    fitting = sorted(column for column, feature in features.items() if fits(feature))
    if name is None and len(fitting) == 1:
        return fitting[0]
    if name in fitting:
        return name
    columns = ", ".join(f"{column} ({_type_name(feature)})" for column, feature in sorted(features.items()))
    if name is not None:
        raise DataError(f"{origin}: {key}: {name} is no column of {kind}; the columns are {columns}")
    if not fitting:
        raise DataError(f"{origin}: has no column of {kind}; the columns are {columns}; {key} names one")
    raise DataError(f"{origin}: has {len(fitting)} columns of {kind}: choose one by {key}: {' or '.join(fitting)}")


def _is_image(feature: Any) -> bool:
    """Whether it is declared as images, or as their files' bytes, paths or both."""
    import datasets  # type: ignore[import-untyped]

    return isinstance(feature, datasets.Image) or (isinstance(feature, dict) and bool({"bytes", "path"} & set(feature)))


def _may_be_images(feature: Any) -> bool:
    """Whether it can hold images if the user says so: it does, or it is texts (paths) or bytes."""
    return _is_image(feature) or str(getattr(feature, "dtype", "")).removeprefix("large_") in ("string", "binary")


def _is_class_label(feature: Any) -> bool:
    import datasets

    return isinstance(feature, datasets.ClassLabel)


def _is_label(feature: Any) -> bool:
    kind = str(getattr(feature, "dtype", ""))
    return kind.startswith(("int", "uint", "string", "large_string", "bool"))


def _type_name(feature: Any) -> str:
    return str(getattr(feature, "dtype", type(feature).__name__))
