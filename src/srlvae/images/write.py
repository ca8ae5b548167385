"""Writing pictures, one by one and as contact sheets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional as F

from srlvae.files import write_atomically
from srlvae.images.carried import Carried
from srlvae.images.contract import to_pil, to_tensor
from srlvae.opened import open_file

# The contact sheet in a folder of written images, and the text in its head by which it is known.
SHEET, MADE = "sheet.png", "contact sheet by srlvae"
# How many bytes of a file its head takes.
HEAD = 1024


def write_image(
    path: Path, x: Float[Tensor, "3 h w"], carried: Carried | None = None, alpha: Image.Image | None = None
) -> None:
    """Write `x` in [0,1], rounded to 8 bits, atomically.

    A path that ends in .png keeps every level. One that ends in .webp is lossy and only meant to be looked at. `carried` and
    `alpha`, for a PNG, are of the picture that `x` was made from.
    """
    image, options = to_pil(x), carried.options() if carried else {}
    if alpha is not None:
        image.putalpha(alpha)
    write_atomically(path, lambda file: image.save(file, quality=85, **options))


def write_contact_sheet(folder: Path, x: Float[Tensor, "3 h w"]) -> Path:
    """Write `x` in [0,1] as the contact sheet of a folder, and return its path."""
    write_image(folder / SHEET, x, Carried(texts={"Comment": MADE}))
    return folder / SHEET


def is_sheet(path: Path) -> bool:
    """Whether a file is a contact sheet that `write_contact_sheet` wrote, as far as it can be opened."""
    if path.name != SHEET:
        return False
    try:
        with open_file(path) as file:
            return MADE.encode() in file.read(HEAD)
    except OSError:
        return False


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
        draw.text((i * width + gap, size // 3), caption, fill="black", font=font_of(caption, size, width - gap))
    return torch.cat([to_tensor(head), grid], dim=1)


def font_of(text: str, size: int, width: int) -> ImageFont.FreeTypeFont:
    """A font of `size` pixels, or smaller where `text` would be wider than `width`."""
    import matplotlib  # its font has Greek, Cyrillic and signs; Pillow's has boxes for them

    font = ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans.ttf"), size)
    return font.font_variant(size=max(7, int(size * min(1.0, width / max(font.getlength(text), 1.0)))))
