"""Reading pictures. Whatever a broken file makes its decoder raise becomes an error of that one file, with the reason."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxtyping import Float
from PIL import ExifTags, Image, ImageOps
from torch import Tensor

from srlvae.images.boundary import NO_FAULT, QUIET, READING, check_pixels, check_room, errors_of, reason_of
from srlvae.images.carried import MOST_CARRIED, Carried, exif_before_pixels, read_carried
from srlvae.images.colour import on_white, other_colours, to_srgb
from srlvae.images.contract import to_tensor
from srlvae.images.formats import open_picture
from srlvae.images.left_out import LeftOut
from srlvae.images.levels import check_planes, transparent_key
from srlvae.words import shortened


@dataclass(frozen=True)
class Picture:
    """A picture as it was read, upright.

    - rgb: its colours in sRGB, 8 bits, mode RGB, not laid on anything.
    - alpha: its transparency in mode L, or None.
    - carried: EXIF, XMP and texts of the file.
    - converted: what was converted on the way, in words.
    - lost: what of the file is not used, in words, such as later frames.
    """

    rgb: Image.Image
    alpha: Image.Image | None
    carried: Carried
    converted: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()

    def on_white(self) -> Image.Image:
        """The picture with its transparent places laid on white, as 8-bit RGB."""
        return on_white(self.rgb, self.alpha)


def read_picture(
    path: Path,
    at_least: int | None = None,
    left_out: LeftOut | None = None,
    *,
    content: bytes | None = None,
    room: int = READING,
) -> Picture:
    """Read the picture in `path`.

    It is turned upright by its EXIF orientation, its colour profile is converted to sRGB, and 16 bits are scaled to 8. Of an
    animation the first frame is taken. With `at_least`, a JPEG may be decoded at a half, a quarter or an eighth of its size,
    but with no side below that many pixels; this is four times as fast. What of the file is not used is added to `left_out`.
    content: the bytes of the file where they were read already. room: bytes a pixel that it and what is done with it take.

    Raises UnreadableError that names the file and says why if it is broken, truncated, not a picture, in need of an extra, too
    large for the memory that is free, or so large that it may be a decompression bomb.
    """

    def read() -> Image.Image:
        image = open_picture(Path(path) if content is None else io.BytesIO(content))
        if at_least:
            image.draft("RGB", (at_least, at_least))
        return image

    picture = _guarded(read, str(path), room)
    if left_out:
        for part in picture.lost:
            left_out.add(path, part, whole=False)
    return picture


def open_rgb(path: Path, at_least: int | None = None) -> Image.Image:
    """Open the picture in `path` as 8-bit RGB on white; otherwise as `read_picture` reads it and with its errors."""
    return read_picture(path, at_least).on_white()


def read_rgb(read: Callable[[], Image.Image | None], name: str) -> Image.Image:
    """Convert the picture that `read` opens to 8-bit RGB, as `open_rgb` does. `name` is what errors call it.

    Raises UnreadableError as `open_rgb` does, or if `read` returns None.
    """
    return _guarded(read, name).on_white()


def open_cell(cell: Any) -> Image.Image | None:
    """Open the picture in a cell of a table: bytes, a picture, a path, or a mapping with `bytes` or `path`; None if empty."""
    if isinstance(cell, dict):
        cell = cell.get("bytes") or cell.get("path")
    if isinstance(cell, bytes | bytearray | memoryview):
        return open_picture(io.BytesIO(cell))
    return open_picture(Path(cell)) if isinstance(cell, str | Path) else cell


def image_size(path: Path) -> tuple[int, int] | None:
    """Width and height of the picture in `path` when upright, read from its header alone; None if it cannot be read."""
    try:
        with QUIET, open_picture(Path(path)) as image:
            # Pillow opens TIFF files upright.
            turned = image.format != "TIFF" and _orientation(image, decoded=False)[0] >= 5
            return (image.height, image.width) if turned else image.size
    except BaseException as error:  # whatever it is, reading the picture will say so
        if isinstance(error, NO_FAULT):
            raise
        return None


def read_image(path: Path) -> Float[Tensor, "3 h w"]:
    """Read the picture in `path` as a tensor in [0,1]. Raises UnreadableError as `read_picture` does."""
    return to_tensor(open_rgb(path))


def read_square(path: Path, size: int) -> Float[Tensor, "3 size size"]:
    """Read the centre square of the picture in `path`, resized to `size` pixels a side (Lanczos)."""
    return read_fitted(path, size, size)


def read_fitted(path: Path, height: int, width: int) -> Float[Tensor, "3 height width"]:
    """Read the centre of the picture in `path`, cropped to the proportions of `height` by `width` and resized (Lanczos)."""
    return fit(open_rgb(path), height, width)


def fit(image: Image.Image, height: int, width: int) -> Float[Tensor, "3 height width"]:
    """The centre of an RGB picture, cropped to the proportions of `height` by `width` and resized (Lanczos)."""
    return to_tensor(ImageOps.fit(image, (width, height), Image.Resampling.LANCZOS))


def _guarded(read: Callable[[], Image.Image | None], name: str, room: int = READING) -> Picture:
    """The picture that `read` opens. Raises UnreadableError for whatever goes wrong."""
    with errors_of(name):
        opened = read()
        if opened is None:
            raise OSError("no image there")
        with opened as image:
            check_pixels(image)
            check_room(image, room)
            return _decode(image)


def _decode(image: Image.Image) -> Picture:
    check_planes(image)
    # Pillow has no 16-bit colours: it takes the upper byte. Once it is loaded, nothing tells so.
    deep = not image.mode.startswith("I") and any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))
    lost, key = _later_frames(image), transparent_key(image)
    orientation, remarks = _orientation(image)
    lost += remarks
    image.load()
    carried, remarks = _carried(image)
    lost += remarks + other_colours(image)
    if orientation > 1:
        ImageOps.exif_transpose(image, in_place=True)
    rgb, alpha, converted, remarks = to_srgb(image, key)
    turned = ["turned upright"] if orientation > 1 else []
    cut = ["16 bits cut to 8"] if deep else []
    return Picture(rgb, alpha, carried, (*turned, *cut, *converted), (*lost, *remarks))


def _later_frames(image: Image.Image) -> list[str]:
    if image.format == "MPO":  # a camera's previews of the same picture
        return []
    try:
        frames = getattr(image, "n_frames", 1)
    except Exception as error:  # the first may be whole
        return [f"all but its first frame, which are broken ({reason_of(error)})"]
    return [f"all but the first of its {frames} frames"] if frames > 1 else []


def _orientation(image: Image.Image, decoded: bool = True) -> tuple[int, list[str]]:
    """The EXIF orientation from 1 to 8, and a remark where there is another.

    A PNG has to be decoded for what stands behind its pixels; with `decoded=False` only what stands before them is looked at.
    """
    try:
        exif = image.getexif() if decoded or image.format != "PNG" else exif_before_pixels(image)
        orientation = exif.get(ExifTags.Base.Orientation, 1)
    except Exception as error:  # as decoders, so parsers
        return 1, [f"its EXIF data, which are broken ({reason_of(error)})"]
    if isinstance(orientation, int) and 1 <= orientation <= 8:
        return orientation, []
    # 0 is written for "unknown".
    said = f"its EXIF orientation, which is {shortened(orientation)} and no number from 1 to 8"
    return 1, [] if orientation == 0 else [said]


def _carried(image: Image.Image) -> tuple[Carried, list[str]]:
    try:
        carried = read_carried(image)
    except Exception as error:  # as above
        return Carried(), [f"its EXIF data, which are broken ({reason_of(error)})"]
    if carried.size > MOST_CARRIED:
        return Carried(), [f"its EXIF data and texts, which are {carried.size:,} bytes long"]
    return carried, []
