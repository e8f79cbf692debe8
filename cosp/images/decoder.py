"""From an encoded image to pixels: the one way that every reader takes, whether images come as files or as bytes.

Images are turned as their EXIF tag says before anything is asked of them. Grey stays grey if every image is; otherwise
all become RGB, and transparency is dropped. More than 8 bits a channel, which PIL would cut or clip, are refused.
"""

from __future__ import annotations

import io
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Iterator, Optional, Tuple, Union

import numpy as np
from PIL import Image, ImageFile

from cosp.errors import DataError
from cosp.images.faults import first_line

PILLOW: Any = Image
"""Under names that Pillow 7 of a JetPack 5 board has, too, and the types of today's have not."""
Encoded = Union[Path, bytes]
Shape = Tuple[int, int, int]
"""(H, W, C)"""

GREY = frozenset({"1", "L", "LA"})
DEEP = frozenset(
    {"F", "I", "I;16", "I;16B", "I;16L", "I;16N"}
)  # PIL's modes of more than 8 bits; it has none of colour
ORIENTATION = 0x0112  # a tag of EXIF
TURNS = {
    2: PILLOW.FLIP_LEFT_RIGHT,
    3: PILLOW.ROTATE_180,
    4: PILLOW.FLIP_TOP_BOTTOM,
    5: PILLOW.TRANSPOSE,
    6: PILLOW.ROTATE_270,
    7: PILLOW.TRANSVERSE,
    8: PILLOW.ROTATE_90,
}
"""EXIF orientation -> what sets an image upright."""

RAW_OF_16_BITS = (";16B", ";16L", ";16N")  # not BMP's ";16", which is a pixel's
BITS_PER_SAMPLE = 258  # a tag of TIFF
CODESTREAM = b"\xff\x4f\xff\x51"  # of JPEG 2000: its start and its SIZ marker
FIRST_DEPTH = 42  # bytes after that start: Ssiz of the first component, its bits less one


@contextmanager
def opened(encoded: Encoded, *, origin: str) -> Iterator[ImageFile.ImageFile]:
    """Yield the image, not decoded yet; DataError names ``origin`` if it cannot be read then or while it is used."""
    try:
        with Image.open(io.BytesIO(encoded) if isinstance(encoded, bytes) else encoded) as image:
            _refuse_deep(image, origin)
            yield image
    except DataError:
        raise
    except Exception as error:  # damaged images surface as nearly anything
        raise DataError(f"{origin}: cannot be read as an image ({first_line(error)}); mend or remove it") from error


def decoded(encoded: Encoded, shape: Shape, *, origin: str) -> np.ndarray:
    """Return the image as uint8 of that shape (H, W, C), resized if need be; DataError if it cannot be read."""
    with opened(encoded, origin=origin) as image:
        return _pixels(upright(image), shape)


def common_shape(images: Iterator[Tuple[str, Encoded]], image_size: Optional[int]) -> Shape:
    """(H, W, C) that all ``images`` (name, content) get: their own size, or squares of ``image_size``.

    DataError if they have several sizes and none is asked for. With a size asked for only headers are read.
    """
    first: Optional[Tuple[str, Tuple[int, int]]] = None
    grey = True
    for origin, encoded in images:
        with opened(encoded, origin=origin) as image:
            grey = grey and image.mode in GREY
            if image_size is not None:
                continue
            size = upright_size(image)
        first = first or (origin, size)
        if size != first[1]:
            raise DataError(
                f"{origin}: is {size[0]}x{size[1]}, {first[0]} is {first[1][0]}x{first[1][1]}; "
                "set data.image_size to resize all to squares"
            )
    width, height = (image_size, image_size) if image_size is not None else first[1] if first else (0, 0)
    return height, width, 1 if grey else 3


def upright(image: Image.Image) -> Image.Image:
    """Decode, and turn as the EXIF tag says; a tag that cannot be read turns nothing."""
    image.load()
    try:
        turn = TURNS.get(image.getexif().get(ORIENTATION, 1))
    except Exception:  # as damaged images, damaged tags surface as nearly anything
        return image
    return image if turn is None else image.transpose(turn)


def upright_size(image: Image.Image) -> Tuple[int, int]:
    """(width, height) once it stands upright; a square is not decoded for that."""
    width, height = image.size
    return image.size if width == height else upright(image).size


def _pixels(image: Image.Image, shape: Shape) -> np.ndarray:
    height, width, channels = shape
    if image.mode == "P":  # straight to RGB, PIL warns about transparent palettes
        image = image.convert("RGBA")
    image = image.convert("L" if channels == 1 else "RGB")
    if image.size != (width, height):
        image = image.resize((width, height), PILLOW.BILINEAR)
    return np.asarray(image, np.uint8).reshape(shape)


def _refuse_deep(image: ImageFile.ImageFile, origin: str) -> None:
    if image.mode in DEEP or _bits(image) > 8:
        raise DataError(
            f"{origin}: has more than 8 bits a channel (mode {image.mode}, {image.format}); convert it, or give the "
            "data as .npz"
        )


def _bits(image: ImageFile.ImageFile) -> int:
    """How many bits a channel has in the file, as far as its header says; PIL's mode is that of 8 bits all the same."""
    if image.format == "TIFF":
        return int(max(image.tag_v2.get(BITS_PER_SAMPLE, (1,))))  # type: ignore[attr-defined]
    if image.format == "JPEG2000":
        return _bits_of_codestream(image)
    if not image.tile:
        return 8
    codec, arguments = image.tile[0][0], image.tile[0][3]
    first, *_, last = arguments if isinstance(arguments, tuple) else (arguments, 0)
    if codec in ("ppm", "ppm_plain"):
        return int(last).bit_length()  # of the largest value
    return 16 if codec == "SGI16" or str(first).endswith(RAW_OF_16_BITS) else 8


def _bits_of_codestream(image: ImageFile.ImageFile) -> int:
    assert image.fp is not None
    image.fp.seek(0)
    content = image.fp.read(1 << 16)
    start = content.find(CODESTREAM)
    return (content[start + FIRST_DEPTH] & 0x7F) + 1 if start >= 0 else 8
