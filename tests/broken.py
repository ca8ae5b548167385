"""A folder in which most files are broken or hostile, each in a way of its own, and what is to be said of it."""

from __future__ import annotations

import io
import os
import pickle
import socket
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


def png(*chunks: bytes) -> bytes:
    """A sound picture with more chunks before its pixels."""
    whole = encoded("PNG")
    return whole[:33] + b"".join(chunks) + whole[33:]


def tiff_that_loops() -> bytes:
    """A picture whose next directory is the directory itself."""
    tags = [(256, 4, 24), (257, 4, 24), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, 200), (278, 4, 24), (279, 4, 576)]
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    head = b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(tags)) + entries + struct.pack("<I", 8)
    return head.ljust(200, b"\0") + bytes(range(192)) * 3


def png_of(colour: int, pixels: bytes) -> bytes:
    """A PNG of 8 x 8 pixels of a type of colour, with these compressed pixels and nothing else."""
    header = struct.pack(">IIBBBBB", 8, 8, 8, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def holes(path: Path) -> None:
    """A file that has four terabytes, of which a disk has none."""
    with path.open("wb") as file:
        file.truncate(2**42)


def make_socket(path: Path) -> None:
    """A socket's own path may be short only, so it is moved there."""
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(near := f"/tmp/{os.getpid()}.socket")
    os.rename(near, path)


def outside(path: Path) -> Path:
    """A picture that lies beside the folder of `path`, not in it."""
    private = path.parent.parent / "private"
    private.mkdir(exist_ok=True)
    picture(9).save(private / "own.png")
    return private


class Runs:
    """Unpickling it writes a file."""

    def __reduce__(self):
        return os.system, ("touch /tmp/srlvae-was-run",)


def written(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


# By name: how it is made, and a part of the reason that is given.
BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty.png": (written(b""), "the file is empty"),
    "page.jpg": (written(b"<html>not found</html>"), "not in any of the formats"),
    "cut.jpg": (lambda path: path.write_bytes(encoded("JPEG")[:1500]), "truncated"),
    "cut.png": (lambda path: path.write_bytes(encoded("PNG")[:2000]), "truncated"),
    "cut.webp": (lambda path: path.write_bytes(encoded("WEBP")[:800]), "not a readable image"),
    "bomb.png": (written(png_that_declares(60_000, 60_000)), "refused as too large"),
    "script.png": (written(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n"), "not in any of the formats"),
    "game.png": (written(b"DDS " + b"\xff" * 140), "not in any of the formats"),
    "float.tif": (lambda path: Image.new("F", (8, 8), 0.5).save(path), "float pixels"),
    "phone.heic": (written(b"\0\0\0\x18ftypheic" + b"\0" * 40), "not a readable image"),
    "new.jxl": (written(b"\xff\x0a" + b"\0" * 40), "not a readable image"),
    "folder.png": (lambda path: path.mkdir(), "a folder with the name of an image"),
    "dangling.png": (lambda path: path.symlink_to("nowhere.png"), "a link that leads nowhere"),
    "looping.png": (lambda path: path.symlink_to(path.name), "a link that leads nowhere"),
    "pipe.png": (os.mkfifo, "a device or a pipe"),
    "socket.png": (make_socket, "a device or a pipe"),
    "zero.png": (written(png_that_declares(0, 7)), "not a readable image"),
    "negative.bmp": (
        written(b"BM" + struct.pack("<IHHIIiiHHIIiiII", 60, 0, 0, 54, 40, -5, 5, 1, 24, 0, 0, 0, 0, 0, 0)),
        "refused as too large",
    ),
    "postscript.tif": (
        written(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(x) (w) file\n"),
        "not in any of the formats",
    ),
    "drawing.jpg": (written(b'<svg xmlns="http://www.w3.org/2000/svg"><script/></svg>'), "not in any of the formats"),
    "document.png": (written(b"%PDF-1.7\n"), "not in any of the formats"),
    "pickled.png": (written(pickle.dumps(Runs())), "not in any of the formats"),
    "archive.webp": (written(b"PK\3\4" + b"\0" * 60), "not in any of the formats"),
    "inflated.png": (written(png(chunk(b"zTXt", b"a\0\0" + zlib.compress(b"\0" * 2**24)))), "not a readable image"),
    "lying.gif": (written(b"GIF89a" + b"\xff" * 30), "not a readable image"),
    "short.webp": (written(b"RIFF\xff\xff\xff\x7fWEBPVP8 "), "not a readable image"),
    "short.jp2": (written(b"\0\0\0\x0cjP  \r\n\x87\n" + b"\xff" * 40), "not a readable image"),
    "holes.png": (holes, "refused as too large"),
    "wide.gif": (written(encoded("GIF")[:6] + b"\xff" * 4 + encoded("GIF")[10:]), "refused as too large"),
    "token.ppm": (written(b"P6 " + b"9" * 5000 + b" 8 255\n"), "Token too long"),
    "nothing.ppm": (written(b"P6 8 8 0\n" + b"\0" * 192), "not a readable image"),
    "mirrored.jpg": (lambda path: path.symlink_to("../in/mirrored.jpg"), "a link that leads nowhere"),
    "colourless.png": (written(png_of(3, zlib.compress(b"\0" * 72))), "not a readable image"),
    "frames.png": (
        written(png(chunk(b"acTL", struct.pack(">II", 2**31 - 1, 0)), chunk(b"fcTL", b"\0" * 26))),
        "not a readable",
    ),
    "profile-bomb.png": (written(png(chunk(b"iCCP", b"x\0\0" + zlib.compress(b"\0" * 2**24)))), "not a readable image"),
    "far.tif": (
        written(tiff_that_loops().replace(struct.pack("<I", 200), b"\xf0\xff\xff\x7f", 1)[:150]),
        "not a readable image",
    ),
    "above": (lambda path: path.symlink_to(".."), "leads out of the folder"),
    "private.png": (lambda path: path.symlink_to(outside(path) / "own.png"), "leads out of the folder"),
    "linked": (lambda path: path.symlink_to(outside(path)), "leads out of the folder"),
    "device.png": (lambda path: path.symlink_to("/dev/zero"), "leads out of the folder"),
}


# Whole pictures that carry what is broken, hostile or unusual; by name, of which a part is left out.
ODD: dict[str, tuple[Callable[[Path], object], str]] = {
    "turned.jpg": (
        lambda path: picture(1).save(path, exif=text_as_orientation()),
        "its EXIF orientation, which is 'lef' and no number from 1 to 8",
    ),
    "film.gif": (
        lambda path: picture(0).save(path, save_all=True, append_images=[picture(1)]),
        "all but the first of its 2 frames",
    ),
    "profile.png": (
        lambda path: picture(2).save(path, icc_profile=b"\x1b[31m" * 40),
        "its colour profile, which cannot be used",
    ),
    "exif.png": (written(png(chunk(b"eXIf", b"II*\0\xff\xff\xff\xff"))), ""),
    "texts.png": (
        written(png(chunk(b"tEXt", b"\x1b[31m\xff\0\x1b[2J" * 9), chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0<"))),
        "",
    ),
    "xmp.webp": (lambda path: picture(3).save(path, xmp=b"<x>" * 2**23), "its EXIF data and texts, which are"),
    "looping.tif": (written(tiff_that_loops()), ""),
}
# Names that a spreadsheet, a console, a terminal, a page or a template would obey, and some that are long or no text.
NAMES = [
    *(
        b"=HYPERLINK(1).png",
        b"+1.png",
        b"-cmd.png",
        b"@SUM(A1).png",
        b"\tt.png",
        b"\rr.png",
        b"'q.png",
        b"'=q.png",
        b"a;=1.png",
    ),
    *(b"[red]x.png", b"[/red].png", b"[bold.png", b"a\\[b].png", b"\x1b[31m\x1b]0;x\x07.png", b"two\nlines.png", b"\x7f.png"),
    *("\u202egnp.exe.png".encode(), "\u2066\u200b.png".encode(), "\uff1d1.png".encode(), b"caf\xe9.png", b"\xff\xfe.png"),
    *(b"<script>alert(1)<.png", b'"><img src=x>.png', b"{{7*7}}.png", b"%s{0}$(id)`id`.png", b" .png", b"n" * 251 + b".png"),
]


def make_names(folder: Path, make: Callable[[Path, int], object]) -> list[str]:
    """The files NAMES in `folder`, each made by `make`; those that the file system takes."""
    made = []
    for number, name in enumerate(NAMES):
        make(folder / "new.png", number)
        try:
            os.rename(folder / "new.png", folder / os.fsdecode(name))
        except OSError:
            (folder / "new.png").unlink()
            continue
        made.append(os.fsdecode(name))
    return made


def make_folder(folder: Path, whole: int) -> Path:
    """`whole` images in two folders, all that is in BROKEN, and two of which a part cannot be used."""
    for i in range(whole):
        target = folder / ("cats" if i % 2 else "dogs") / f"{i:04d}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        picture(i).save(target)
    for name, (make, _) in BROKEN.items():
        make(folder / name)
    for name, (make, _) in ODD.items():
        make(folder / name)
    return folder
