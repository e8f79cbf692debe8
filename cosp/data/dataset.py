"""The data set that training sees: normalised images or series, or texts, three splits, class names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cosp.data import series
from cosp.data.image_files import ImageFiles
from cosp.data.images import Labelled, Source
from cosp.data.kinds import SampleKind, kind_of, shown
from cosp.data.raw_texts import RawTexts
from cosp.data.splits import Sizes, check_cut, other_rows, rows_to_test, train_validation_rows
from cosp.data.tokenizers import Tokenizer
from cosp.data.wording import Wording
from cosp.errors import DataError
from cosp.images.pixels import channels_first, normalise

CHUNK = 1024  # images whose deviations are held in float64 at a time
BY_DEFAULT = Wording()
STREAMED = 2048  # training images whose mean and deviation stand for all, where they stay in their files


@dataclass(frozen=True, kw_only=True)
class Split:
    """``x`` images (N, C, H, W) or series (N, T, C), normalised, or texts (N, T); ``y`` int64 (N,), indices into the
    data set's classes.

    Streamed images are in their files: ``np.asarray`` of some of them reads those. ``clients`` (N,): whose each is, an
    integer or a text, where the source says so and was asked.
    """

    x: NDArray[np.float32] | NDArray[np.int32] | ImageFiles
    y: NDArray[np.int64]
    clients: NDArray[Any] | None = None

    def __len__(self) -> int:
        return len(self.y)

    @property
    def streamed(self) -> bool:
        return isinstance(self.x, ImageFiles)


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Samples to train on, to choose the exit on (``validation``, kept by the server) and to test on.

    Every channel of images and series was shifted and scaled by the mean and standard deviation of those that train,
    kept in ``mean`` and ``std`` (C values each, in the source's units) for use on new ones. Texts are
    made of words 0 .. ``vocabulary`` - 1 instead; where a ``tokenizer`` made them, the word ``padding`` fills up the
    shorter ones and says nothing. ``declared`` data are not there: their ``x`` is zeros.
    ``resizable`` and ``notes`` are the source's.
    """

    name: str
    classes: tuple[str, ...]
    train: Split
    validation: Split
    test: Split
    mean: tuple[float, ...]
    std: tuple[float, ...]
    vocabulary: int | None = None
    padding: int | None = None
    tokenizer: Tokenizer | None = None
    declared: bool = False
    resizable: bool = False
    notes: tuple[str, ...] = ()

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Of one sample: (C, H, W) of an image, (T, C) of a series, (T,) of a text."""
        return self.train.x.shape[1:]

    @property
    def special_words(self) -> tuple[int, ...]:
        """Words that a board holds whatever its texts say; of texts that came as numbers nobody knows any."""
        if self.tokenizer is not None:
            return self.tokenizer.special
        return () if self.padding is None else (self.padding,)

    @property
    def kind(self) -> SampleKind:
        """What the samples are."""
        return kind_of(self.sample_shape)

    def normalised(self, samples: Labelled) -> Split:
        """Return other samples as this data set's would be; DataError if they have another shape or other words."""
        if isinstance(samples.x, RawTexts):
            if self.tokenizer is None:
                raise DataError(f"{samples.origin}: has texts, {self.name} has none that a tokenizer cut into words")
            return Split(x=self.tokenizer.encode(samples.x), y=samples.y)
        words, shape = self.vocabulary, self.sample_shape
        own = (*shape[1:], shape[0]) if self.kind == "images" else shape
        if samples.x.shape[1:] != own:
            raise DataError(
                f"{samples.origin}: samples are {shown(samples.x.shape[1:])}, those of {self.name} {shown(own)}; "
                "they must be alike"
            )
        if words is None:
            mean, std, x = np.array(self.mean), np.array(self.std), np.asarray(samples.x)
            if self.kind == "series":
                return Split(x=series.normalised(x, mean, std), y=samples.y)
            return Split(x=normalise(channels_first(x), mean, std), y=samples.y)
        x = np.asarray(samples.x)
        if not x.max() < words:
            raise DataError(f"{samples.origin}: word {x.max()} is none of {self.name}'s, 0..{words - 1}")
        return Split(x=x, y=samples.y)


def prepare(source: Source, *, sizes: Sizes, seed: int, wording: Wording = BY_DEFAULT) -> Dataset:
    """Split, cut to size and normalise what a reader found; DataError if it cannot be trained and tested on.

    A source's validation split tests where it has no test split. ``wording``: how texts are cut into words.
    """
    train, test, validation, notes = source.train, source.test, source.validation, source.notes
    if test is None and validation is not None:
        notes = (*notes, f"{validation.origin}: the validation split tests, as there is no test split")
        test, validation = validation, None
    if test is None:
        held_out = rows_to_test(train.y, origin=train.origin)
        train, test = train.rows(other_rows(len(train), held_out)), train.rows(held_out)
    for other in (test, validation):
        if other is not None and train.x.shape[1:] != other.x.shape[1:]:
            raise DataError(
                f"{other.origin}: test samples are {shown(other.x.shape[1:])}, training samples "
                f"{shown(train.x.shape[1:])}; they must be alike"
            )
    parts = _cut(train, test, validation, sizes=sizes, seed=seed)
    train = parts["train"]
    if len(np.unique(train.y)) < 2:
        raise DataError(
            f"{train.origin}: training takes at least 2 classes, its {len(train)} training images are all "
            f"'{source.classes[train.y[0]]}'; add classes, or shuffle the images if they are sorted by class"
        )
    if isinstance(train.x, RawTexts):
        dataset = _raw_texts(source, parts, wording.tokenizer_for(train.x))
    else:
        prepared = {"texts": _texts, "series": _series, "images": _images}
        dataset = prepared[kind_of(train.x.shape[1:])](source, parts)
    return replace(dataset, resizable=source.resizable, notes=notes)


def _raw_texts(source: Source, parts: Mapping[str, Labelled], tokenizer: Tokenizer) -> Dataset:
    splits: dict[str, Any] = {
        name: Split(x=tokenizer.encode(part.x), y=part.y, clients=part.clients)
        for name, part in parts.items()
        if isinstance(part.x, RawTexts)
    }
    return Dataset(
        name=source.name,
        classes=source.classes,
        **splits,
        mean=(),
        std=(),
        vocabulary=tokenizer.words,
        padding=tokenizer.padding,
        tokenizer=tokenizer,
    )


def _cut(
    train: Labelled, test: Labelled, validation: Labelled | None, *, sizes: Sizes, seed: int
) -> dict[str, Labelled]:
    """The three splits as large as asked for; without a ``validation`` of its own that is taken from ``train``."""
    if validation is None:
        rows, held_out = train_validation_rows(train.y, sizes=sizes, seed=seed, origin=train.origin)
        parts = {"train": train.rows(rows), "validation": train.rows(held_out)}
    else:
        parts = {
            "train": _first(train, sizes.train, "training"),
            "validation": _first(validation, sizes.validation, "validation"),
        }
    parts["test"] = _first(test, sizes.test, "test")
    whole = {"train": train, "validation": validation or train, "test": test}
    for name, part in parts.items():
        if getattr(sizes, name) is not None:
            check_cut(part.y, whole[name].y, key=f"data.{name}", origin=part.origin)
    return parts


def _first(samples: Labelled, count: int | None, what: str) -> Labelled:
    if count is not None and count > len(samples):
        raise DataError(
            f"{samples.origin}: {count} {what} images were asked for, there are {len(samples)}; ask for less"
        )
    return samples.rows(np.arange(len(samples) if count is None else count))


def _texts(source: Source, parts: Mapping[str, Labelled]) -> Dataset:
    """The vocabulary is what the source says, else that of the whole source, whatever the sizes."""
    known = [samples for samples in (source.train, source.test, source.validation) if samples is not None]
    splits: dict[str, Any] = {
        name: Split(x=np.asarray(part.x), y=part.y, clients=part.clients) for name, part in parts.items()
    }
    return Dataset(
        name=source.name,
        classes=source.classes,
        **splits,
        mean=(),
        std=(),
        vocabulary=source.vocabulary or 1 + max(int(np.asarray(samples.x).max()) for samples in known),
    )


def _series(source: Source, parts: Mapping[str, Labelled]) -> Dataset:
    x = {name: np.asarray(part.x) for name, part in parts.items()}
    mean, std = series.mean_and_std(x["train"])
    splits: dict[str, Any] = {
        name: Split(x=series.normalised(x[name], mean, std), y=part.y, clients=part.clients)
        for name, part in parts.items()
    }
    return Dataset(
        name=source.name, classes=source.classes, **splits, mean=tuple(mean.tolist()), std=tuple(std.tolist())
    )


def _images(source: Source, parts: Mapping[str, Labelled]) -> Dataset:
    x = {
        name: part.x if isinstance(part.x, ImageFiles) else channels_first(np.asarray(part.x))
        for name, part in parts.items()
    }
    train = x["train"]
    mean, std = _mean_and_std(channels_first(np.asarray(train[:STREAMED])) if isinstance(train, ImageFiles) else train)
    splits: dict[str, Any] = {
        name: Split(x=_normalised(x[name], mean, std), y=part.y, clients=part.clients) for name, part in parts.items()
    }
    return Dataset(
        name=source.name,
        classes=source.classes,
        **splits,
        mean=tuple(mean.tolist()),
        std=tuple(std.tolist()),
    )


def _normalised(
    x: NDArray[np.float32] | ImageFiles, mean: NDArray[np.float64], std: NDArray[np.float64]
) -> NDArray[np.float32] | ImageFiles:
    """``x`` itself, changed in place; images in their files are to be normalised when they are read."""
    if isinstance(x, ImageFiles):
        return replace(x, mean=tuple(mean.tolist()), std=tuple(std.tolist()))
    return normalise(x, mean, std)


def _mean_and_std(x: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Per channel, (C,) each, summed in float64; the deviation of a constant channel counts as 1."""
    mean = x.mean(axis=(0, 2, 3), dtype=np.float64)
    squares = np.zeros_like(mean)
    for start in range(0, len(x), CHUNK):
        squares += ((x[start : start + CHUNK] - mean[:, None, None]) ** 2).sum(axis=(0, 2, 3))
    std = np.sqrt(squares * len(mean) / x.size)
    return mean, np.where(std > 0, std, 1.0)
