"""The image contract: float32 `batch 3 height width`, sRGB, in [0,1]. Images are read, written and resized here alone."""

from __future__ import annotations

import os
import struct
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import ExifTags, Image, ImageDraw, ImageFont, ImageOps
from torch import Tensor
from torch.nn import functional as F

from srlvae.errors import InputError
from srlvae.files import write_atomically

# The contact sheet in a folder of written images.
SHEET = "sheet.png"
Images = Float[Tensor, "b 3 h w"]
SUFFIXES = {".png", ".jpg", ".jpeg", ".jfif", ".webp", ".avif", ".bmp", ".tif", ".tiff", ".gif", ".ppm"}


# x + δ may leave the box by what float32 rounds.
ROUNDING = 1e-6


def check_images(x: Tensor, clamped: bool = True) -> Tensor:
    """Return `x` if it keeps the image contract.

    With `clamped=False` the range is not checked: this is for the output of a decoder, which may leave [0,1].

    Raises InputError that quotes the offending shape, dtype, minimum or maximum.
    """
    if x.ndim != 4 or x.shape[1] != 3 or 0 in x.shape:
        raise InputError(f"images must be `batch 3 height width`, got the shape {tuple(x.shape)}")
    if x.dtype != torch.float32:
        raise InputError(f"images must be float32 in [0,1], got {x.dtype}")
    if not clamped:
        return x
    low, high = torch.aminmax(x.detach())
    if not (low >= -ROUNDING and high <= 1 + ROUNDING):
        raise InputError(f"images must lie in [0,1], got values from {low:.4g} to {high:.4g}")
    return x


def check_eps(eps: float) -> float:
    """Return the ℓ∞ budget `eps`, in [0,1] units.

    Raises InputError for a value outside [0,1], such as one that was given in 255ths.
    """
    if not 0 <= eps <= 1:
        raise InputError(f"eps must lie in [0,1]; write {eps:g}/255 for {eps:g} grey levels" if eps > 1 else f"eps is {eps:g}")
    return eps


def find_images(folder: Path) -> list[Path]:
    """List every image file below `folder`, at any depth, sorted. A path to one file gives a list of one.

    Raises InputError if the folder does not exist or holds no images.
    """
    folder = Path(folder)
    if folder.is_file():
        return [folder]
    if not folder.is_dir():
        raise InputError(f"no such folder: {folder}")
    found = sorted(path for path in _files(folder) if path.suffix.lower() in SUFFIXES)
    if not found:
        raise InputError(f"no images below {folder}; looked for {', '.join(sorted(SUFFIXES))}")
    return found


def count_others(folder: Path) -> int:
    """Count the files below `folder` that `find_images` leaves out because their suffix is not that of an image."""
    return sum(path.suffix.lower() not in SUFFIXES for path in _files(folder))


def _files(folder: Path) -> Iterator[Path]:
    """Every file below a folder except hidden ones. Linked folders are entered, each of them once."""
    entered: set[Path] = set()
    for above, folders, names in os.walk(folder, followlinks=True):
        entered.add(Path(above).resolve())
        folders[:] = sorted(name for name in folders if Path(above, name).resolve() not in entered)
        yield from (path for name in names if name[0] != "." and (path := Path(above, name)).is_file())


def find_sources(sources: Sequence[Path], out: Path) -> list[Path]:
    """List the images in `sources` (files or folders) that are to be written to `out` under their own names.

    Where `out` lies below a source folder, the images that an earlier run wrote to `out` are left out.

    Raises InputError if a source itself lies in `out`, if an image has the name of the contact sheet, if two images have the
    same name, or if no image is left.
    """
    seen: dict[str, Path] = {}
    for source in sources:
        for path in find_images(source):
            if out.resolve() in path.resolve().parents:
                if source.resolve() not in out.resolve().parents:
                    raise InputError(f"{path} lies in the output folder {out}; give another --out")
            elif path.stem == SHEET.removesuffix(".png"):
                raise InputError(f"{path} would be overwritten by the contact sheet {SHEET}; rename it")
            elif path.stem in seen:
                raise InputError(f"{seen[path.stem]} and {path} would both be written as {path.stem}.png; give them apart")
            else:
                seen[path.stem] = path
    if not seen:
        raise InputError(f"the only images below {', '.join(map(str, sources))} are those of the output folder {out}")
    return list(seen.values())


def open_rgb(path: Path, at_least: int | None = None) -> Image.Image:
    """Open the picture in `path` as 8-bit RGB.

    The picture is turned upright by its EXIF orientation. Of an animation the first frame is taken, transparency is laid on
    white, and 16 bits are scaled to 8. With `at_least`, a JPEG may be decoded at a half, a quarter or an eighth of its size,
    but with no side below that many pixels; this is four times as fast.

    Raises InputError that names the file if it is broken, truncated, not a picture, or so large that it may be a decompression
    bomb.
    """

    def read() -> Image.Image:
        image = Image.open(path)
        if at_least:
            image.draft("RGB", (at_least, at_least))
        return image

    return read_rgb(read, str(path))


def image_size(path: Path) -> tuple[int, int] | None:
    """Width and height of the picture in `path` when upright, read from its header alone; None if it cannot be read."""
    try:
        with Image.open(path) as image:
            turned = image.getexif().get(ExifTags.Base.Orientation, 1) >= 5
            return (image.height, image.width) if turned else image.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None


def read_rgb(read: Callable[[], Image.Image | None], name: str) -> Image.Image:
    """Convert the picture that `read` opens to 8-bit RGB, as `open_rgb` does. `name` is what errors call it.

    Raises InputError as `open_rgb` does, or if `read` returns None.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            opened = read()
            if opened is None:
                raise OSError("no image there")
            with opened as image:
                return _to_rgb(ImageOps.exif_transpose(image))
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise InputError(f"{name}: refused as too large ({error})") from error
    except (OSError, ValueError, SyntaxError, EOFError, AssertionError, struct.error) as error:
        raise InputError(f"{name}: not a readable image ({error})") from error


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":  # Pillow would cut off the fractions, and floats have no agreed white
        raise ValueError("32-bit float pixels; save it with 8 or 16 bits")
    if image.mode.startswith("I"):  # 16-bit grey; Pillow's own conversion would clip it to white
        image = Image.fromarray((np.asarray(image).clip(0, 65535) / 257).round().astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def to_tensor(image: Image.Image) -> Float[Tensor, "3 h w"]:
    """Convert an 8-bit RGB picture to a float32 tensor in [0,1]."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous().float() / 255


def read_image(path: Path) -> Float[Tensor, "3 h w"]:
    """Read the picture in `path` as a tensor in [0,1]. Raises InputError as `open_rgb` does."""
    return to_tensor(open_rgb(path))


def read_square(path: Path, size: int) -> Float[Tensor, "3 size size"]:
    """Read the centre square of the picture in `path`, resized to `size` pixels a side (Lanczos)."""
    return read_fitted(path, size, size)


def read_fitted(path: Path, height: int, width: int) -> Float[Tensor, "3 height width"]:
    """Read the centre of the picture in `path`, cropped to the proportions of `height` by `width` and resized (Lanczos)."""
    return to_tensor(ImageOps.fit(open_rgb(path), (width, height), Image.Resampling.LANCZOS))


def to_levels(x: Tensor) -> Tensor:
    """Convert `x` in [0,1] to 8-bit levels by rounding to nearest. Truncation would shift a quarter of all levels by one."""
    return (x.detach() * 255).round().clamp(0, 255).to(torch.uint8)


def to_pil(x: Float[Tensor, "3 h w"]) -> Image.Image:
    """Convert a tensor in [0,1] to an 8-bit RGB picture, rounding to nearest."""
    return Image.fromarray(to_levels(x).permute(1, 2, 0).cpu().numpy())


def write_image(path: Path, x: Float[Tensor, "3 h w"]) -> None:
    """Write `x` in [0,1], rounded to 8 bits, atomically.

    A path that ends in .png keeps every level. One that ends in .webp is lossy and only meant to be looked at.
    """
    write_atomically(path, lambda file: to_pil(x).save(file, quality=85))


def pad_to_multiple(x: Tensor, factor: int) -> Tensor:
    """Extend height and width to multiples of `factor`, by repeating the right and the bottom edge."""
    height, width = x.shape[-2:]
    return F.pad(x, (0, -width % factor, 0, -height % factor), mode="replicate")


def tile(
    rows: Sequence[Sequence[Float[Tensor, "3 h w"]]], captions: Sequence[str] = (), gap: int = 4
) -> Float[Tensor, "3 H W"]:
    """Lay images out as a grid on white, for looking at, with a caption above each column.

    `gap` is the white margin around every cell, in pixels.
    """
    padded = [[F.pad(cell.detach().cpu().clamp(0, 1), (gap,) * 4, value=1.0) for cell in row] for row in rows]
    grid = torch.cat([torch.cat(row, dim=2) for row in padded], dim=1)
    if not captions:
        return grid
    width, size = padded[0][0].shape[2], max(9, padded[0][0].shape[2] // 10)
    head = Image.new("RGB", (grid.shape[2], 2 * size), "white")
    draw = ImageDraw.Draw(head)
    for i, caption in enumerate(captions):
        draw.text((i * width + gap, size // 3), caption, fill="black", font=ImageFont.load_default(size))
    return torch.cat([to_tensor(head), grid], dim=1)
