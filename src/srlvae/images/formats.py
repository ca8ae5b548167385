"""Which files are pictures, and how one is opened: by a list of formats, so that a file never starts another program."""

from __future__ import annotations

import functools
import re
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from srlvae.errors import InputError
from srlvae.images.boundary import check_length
from srlvae.opened import open_file

SUFFIXES = {
    *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".webp", ".avif", ".bmp", ".dib", ".tif", ".tiff", ".gif"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".j2k", ".jpx", ".jpf", ".j2c", ".heic", ".heif", ".hif", ".jxl"),
}
# Archives of many pictures: not pictures themselves.
SHARDS = (".tar", ".tar.gz", ".tgz", ".parquet", ".arrow", ".zip")
# Pillow has others, of which EPS starts Ghostscript.
FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "BMP", "DIB", "TIFF", "GIF", "PPM", "JPEG2000")
# Bytes at the beginning of a file that tell its format.
HEAD = 64
# Formats of other packages: how such a file begins, the extra, and the package that reads it.
FURTHER = {
    # Files of the brands mif1 and msf1 may be AVIF, too: then one of the brands that follow says so.
    "HEIF": (
        re.compile(rb"....ftyp(heic|heix|heim|heis|hevc|hevx|(mif1|msf1)(?!.*avi[fs]))", re.DOTALL),
        *("heif", "pillow_heif"),
    ),
    "JXL": (re.compile(rb"\xff\x0a|\0\0\0\x0cJXL "), "jxl", "pillow_jxl"),
}


def open_picture(file: Path | BytesIO) -> Image.Image:
    """Open a picture by what it contains, whatever its name is; its pixels are not read yet.

    Raises whatever Pillow raises, InputError for a file that is empty, not in any of the formats, or in need of an extra, or
    TooLargeError for one that does not fit into memory.
    """
    if isinstance(file, Path):
        check_length(file)
    head = _head(file)
    if not head:
        raise InputError("the file is empty")
    for name, (begins, extra, package) in FURTHER.items():
        if begins.match(head):
            if not _registered(name, package):
                raise InputError(f"a {name} picture needs a package that is not installed; run: pip install 'srlvae[{extra}]'")
            return _open(file, [name])
    try:
        return _open(file, _known())
    except Image.UnidentifiedImageError as error:
        raise InputError(f"not in any of the formats {', '.join(_known())}, or broken at its beginning") from error


def _open(file: Path | BytesIO, formats: list[str]) -> Image.Image:
    image: Any = Image.open(file, formats=formats)
    # Pillow maps files that have a name into memory: turned TIFFs at the wrong width, and a file that is cut short meanwhile
    # ends the process.
    image.filename = ""
    return image


def set_max_pixels(count: int | None) -> None:
    """Let pictures of up to `count` pixels be read in this process; None leaves Pillow's limit of 89 million.

    For commands, and for the processes that they start: a library function never changes the process.
    """
    if count is not None:
        Image.MAX_IMAGE_PIXELS = count


def _head(file: Path | BytesIO) -> bytes:
    if isinstance(file, Path):
        with open_file(file) as opened:
            return opened.read(HEAD)
    head = file.read(HEAD)
    file.seek(0)
    return head


@functools.cache
def _known() -> list[str]:
    """Those of FORMATS that this build of Pillow reads."""
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


@functools.cache
def _registered(name: str, package: str) -> bool:
    """Whether Pillow reads the format `name`, by `package` if that is installed."""
    try:
        module = __import__(package)
    except ImportError:
        return False
    if name == "HEIF":
        module.register_heif_opener()
    return name in Image.OPEN
