"""A folder in which a fifth is broken, each file in a way of its own, and what is to be said of it."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 24


def picture(seed: int = 0, side: int = SIDE) -> Image.Image:
    levels = np.random.default_rng(seed).integers(0, 256, (side // 4, side // 4, 3), dtype=np.uint8)
    return Image.fromarray(levels).resize((side, side))


def encoded(kind: str, **options) -> bytes:
    file = io.BytesIO()
    Image.effect_noise((64, 64), 60).convert("RGB").save(file, kind, **options)
    return file.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_that_declares(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b"")


def text_as_orientation() -> bytes:
    """EXIF with the orientation `lef`, a text."""
    tag = struct.pack("<H", 1) + struct.pack("<HHI4s", 0x112, 2, 4, b"lef\0") + struct.pack("<I", 0)
    return b"Exif\0\0II*\0\x08\0\0\0" + tag


def written(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


# By name: how it is made, and a part of the reason that is given.
BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty.png": (written(b""), "the file is empty"),
    "page.jpg": (written(b"<html>not found</html>"), "in none of the formats"),
    "cut.jpg": (lambda path: path.write_bytes(encoded("JPEG")[:1500]), "truncated"),
    "cut.png": (lambda path: path.write_bytes(encoded("PNG")[:2000]), "truncated"),
    "cut.webp": (lambda path: path.write_bytes(encoded("WEBP")[:800]), "not a readable image"),
    "bomb.png": (written(png_that_declares(60_000, 60_000)), "refused as too large"),
    "script.png": (written(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n"), "in none of the formats"),
    "game.png": (written(b"DDS " + b"\xff" * 140), "in none of the formats"),
    "float.tif": (lambda path: Image.new("F", (8, 8), 0.5).save(path), "float pixels"),
    "phone.heic": (written(b"\0\0\0\x18ftypheic" + b"\0" * 40), "not a readable image"),
    "new.jxl": (written(b"\xff\x0a" + b"\0" * 40), "not a readable image"),
    "folder.png": (lambda path: path.mkdir(), "a folder with the name of an image"),
    "dangling.png": (lambda path: path.symlink_to("nowhere.png"), "a link that leads nowhere"),
    "looping.png": (lambda path: path.symlink_to(path.name), "a link that leads nowhere"),
    "pipe.png": (os.mkfifo, "a device or a pipe"),
}


def make_folder(folder: Path, whole: int) -> Path:
    """`whole` images in two folders, all that is in BROKEN, and two of which a part cannot be used."""
    for i in range(whole):
        target = folder / ("cats" if i % 2 else "dogs") / f"{i:04d}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        picture(i).save(target)
    for name, (make, _) in BROKEN.items():
        make(folder / name)
    picture(0).save(folder / "film.gif", save_all=True, append_images=[picture(1)])
    picture(1).save(folder / "turned.jpg", exif=text_as_orientation())
    return folder
