from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from PIL import Image, ImageOps

from cosp.data import load_dataset
from cosp.errors import DataError
from cosp.images.decoder import common_shape, decoded, opened


def written(image: Image.Image, kind: str, **settings: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **settings)
    return file.getvalue()


def deep_png(colour: int, value: int, side: int = 16) -> bytes:
    """A PNG of 16 bits a channel; ``colour`` is that of its header: 0 grey, 2 RGB, 4 grey and alpha, 6 RGBA."""
    channels = {0: 1, 2: 3, 4: 2, 6: 4}[colour]

    def part(tag: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + tag + body + struct.pack(">I", zlib.crc32(tag + body))

    rows = (b"\0" + struct.pack(f">{channels}H", *[value] * channels) * side) * side
    head = struct.pack(">IIBBBBB", side, side, 16, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", head) + part(b"IDAT", zlib.compress(rows)) + part(b"IEND", b"")


def deep_tiff() -> bytes:
    """The smallest TIFF of one RGB pixel of 16 bits a channel."""
    tags = [(256, 3, 1, 1), (257, 3, 1, 1), (258, 3, 3, 134), (259, 3, 1, 1), (262, 3, 1, 2), (273, 4, 1, 140),
            (277, 3, 1, 3), (278, 3, 1, 1), (279, 4, 1, 6), (284, 3, 1, 1)]  # fmt: skip
    entries = b"".join(
        struct.pack("<HHI", tag, kind, count)
        + (struct.pack("<HH", value, 0) if kind == 3 and count == 1 else struct.pack("<I", value))
        for tag, kind, count, value in tags
    )
    head = b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(tags)) + entries + b"\0\0\0\0"
    return head.ljust(134, b"\0") + struct.pack("<6H", 16, 16, 16, 40, 41, 42)


def deep_jpeg_2000() -> bytes:
    content = bytearray(written(Image.new("RGB", (16, 16)), "JPEG2000"))
    start = content.index(b"\xff\x4f\xff\x51") + 42
    content[start : start + 9 : 3] = b"\x0b" * 3  # 12 bits of each component
    return bytes(content)


DEEP = {
    "png-grey": deep_png(0, 40),
    "png-rgb": deep_png(2, 40),
    "png-grey-alpha": deep_png(4, 40),
    "png-rgba": deep_png(6, 40),
    "tiff-rgb": deep_tiff(),
    "tiff-grey": written(Image.new("I;16", (16, 16)), "TIFF"),
    "tiff-float": written(Image.new("F", (16, 16)), "TIFF"),
    "ppm": b"P6 1 1 65535\n" + struct.pack(">3H", 40, 41, 42),
    "ppm-of-10-bits": b"P6 1 1 1023\n" + struct.pack(">3H", 40, 41, 42),
    "ppm-plain": b"P3 1 1 1023\n40 41 42\n",
    "pgm": b"P5 1 1 65535\n" + struct.pack(">H", 40),
    "jpeg-2000": deep_jpeg_2000(),
}


@pytest.mark.parametrize("name", DEEP)
def test_more_than_8_bits_a_channel_are_refused_whatever_mode_pil_sees(name: str):
    with pytest.raises(DataError, match="deep: has more than 8 bits a channel"), opened(DEEP[name], origin="deep"):
        pass


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "PPM", "BMP", "GIF", "WEBP", "JPEG2000", "SGI", "TGA"])
def test_8_bits_a_channel_are_read(kind: str):
    found = decoded(written(Image.new("RGB", (16, 16), (200, 40, 40)), kind), (16, 16, 3), origin="plain")
    assert np.abs(found.astype(int) - (200, 40, 40)).max() <= 8  # lossy formats are near


def test_few_bits_are_read():
    assert decoded(b"P2 1 1 15\n15\n", (1, 1, 1), origin="four bits").item() == 255
    assert decoded(written(Image.new("1", (4, 4), 1), "PNG"), (4, 4, 1), origin="one bit").min() == 255


LYING = Image.fromarray(np.arange(24, dtype=np.uint8).reshape(4, 6) * 10)


def turned(orientation: int, kind: str, image: Image.Image = LYING) -> bytes:
    tag = image.getexif()
    tag[0x112] = orientation
    return written(image, kind, exif=tag, **({"lossless": True} if kind == "WEBP" else {}))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "JPEG"])
def test_images_stand_as_their_exif_tag_says(kind: str, orientation: int):
    content = turned(orientation, kind)
    wanted = ImageOps.exif_transpose(Image.open(io.BytesIO(content))).convert("RGB")
    shape = common_shape(iter([("turned", content)]), None)
    assert shape[:2] == (wanted.height, wanted.width)
    found = decoded(content, (*shape[:2], 3), origin="turned")
    assert np.array_equal(found, np.asarray(wanted))


def test_a_damaged_tag_turns_nothing():
    content = turned(6, "PNG").replace(b"II*\0", b"IIII").replace(b"MM\0*", b"MMMM")
    place = content.index(b"eXIf")
    length = struct.unpack(">I", content[place - 4 : place])[0]
    check = struct.pack(">I", zlib.crc32(content[place : place + 4 + length]))
    content = content[: place + 4 + length] + check + content[place + 8 + length :]
    assert decoded(content, (4, 6, 1), origin="damaged").tolist() == np.asarray(LYING)[..., None].tolist()


def write_folder(folder: Path, contents: dict[str, bytes], suffix: str) -> None:
    for name, content in contents.items():
        (folder / name).mkdir(parents=True)
        for number in range(6):
            (folder / name / f"{number}{suffix}").write_bytes(content)


def save_set(folder: Path, contents: dict[str, bytes]) -> None:
    features = datasets.Features({"seen": datasets.Image(), "kind": datasets.ClassLabel(names=list(contents))})
    seen = [{"bytes": content, "path": None} for content in contents.values() for _ in range(6)]
    labels = [label for label in range(len(contents)) for _ in range(6)]
    datasets.disable_progress_bars()
    datasets.Dataset.from_dict({"seen": seen, "kind": labels}, features=features).save_to_disk(folder)
    datasets.enable_progress_bars()


@pytest.mark.parametrize("reader", ["folder", "streamed", "saved"])
def test_every_reader_turns_photos(tmp_path: Path, reader: str):
    upright = Image.fromarray(np.repeat(np.array([255, 0], np.uint8), 8)[:, None].repeat(16, axis=1))
    lying = upright.transpose(Image.Transpose.ROTATE_90)
    contents = {"a": turned(1, "PNG", upright), "b": turned(6, "PNG", lying)}
    if reader == "saved":
        save_set(tmp_path / "photos", contents)
    else:
        write_folder(tmp_path / "photos", contents, ".png")
    train = load_dataset(str(tmp_path / "photos"), stream=reader == "streamed").train
    x = np.asarray(train.x)
    assert np.unique(x[:, :, :8].mean(axis=(1, 2, 3)) - x[:, :, 8:].mean(axis=(1, 2, 3))).tolist() == [2.0]


@pytest.mark.parametrize("reader", ["folder", "streamed", "saved"])
def test_every_reader_refuses_deep_colour(tmp_path: Path, reader: str):
    contents = {"dim": deep_png(2, 40), "bright": deep_png(2, 200)}
    if reader == "saved":
        save_set(tmp_path / "deep", contents)
    else:
        write_folder(tmp_path / "deep", contents, ".png")
    with pytest.raises(DataError, match=r"deep.*0.*more than 8 bits a channel \(mode RGB, PNG\)"):
        load_dataset(str(tmp_path / "deep"), stream=reader == "streamed")
