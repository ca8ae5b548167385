"""From the numbers in a file to levels: how many bits they have, and what of them Pillow leaves as it stands in the file."""

from __future__ import annotations

import numpy as np
from PIL import ExifTags, Image

Key = int | tuple[int, ...]
# By how the numbers of a grey PNG lie in the file, what they are multiplied with. Keys of one bit Pillow multiplies itself.
FACTORS = {"L;2": 85, "L;4": 17}
# Values of tags of TIFF.
IN_PLANES, WHITE_IS_ZERO, SIGNED = 2, 0, 2


def check_planes(image: Image.Image) -> None:
    """Raise ValueError for a TIFF of uncompressed planes of 16 bits, which Pillow takes for planes of 8 bits."""
    tiles, tags = list(getattr(image, "tile", ())), getattr(image, "tag_v2", {})
    planes = tags.get(ExifTags.Base.PlanarConfiguration) == IN_PLANES and len(tiles) > 1
    if planes and _bits(image) > 8 and tiles[0][0] == "raw":
        raise ValueError("uncompressed planes of 16 bits; save it with compression, or with all colours of a pixel together")


def transparent_key(image: Image.Image) -> Key | None:
    """The level or colour that is transparent, in the levels that Pillow decodes; to be asked before it decodes.

    None for a picture without one, or with a palette, whose transparency Pillow knows.
    """
    key, tiles = image.info.get("transparency"), getattr(image, "tile", ())
    if not isinstance(key, int | tuple) or image.mode == "P":
        return None
    stored = str(tiles[0][3]) if tiles else ""
    if isinstance(key, tuple):  # of 16-bit colours Pillow takes the upper bytes
        return tuple(level >> 8 for level in key) if ";16" in stored else key
    return key * FACTORS.get(stored, 1)


def alpha_of(image: Image.Image, key: Key) -> Image.Image:
    """The alpha channel of a picture whose level or colour `key` is transparent, in mode L."""
    same = np.asarray(image.convert("L") if image.mode == "1" else image) == np.asarray(key)
    return Image.fromarray(np.where(same.all(-1) if same.ndim == 3 else same, 0, 255).astype(np.uint8))


def to_8_bits(image: Image.Image) -> tuple[Image.Image, str]:
    """Round grey of up to 16 bits, which Pillow would clip to white, to 8; returned with a remark that says so.

    Raises ValueError for 32 bits, and for levels with a sign.
    """
    levels, bits, tags = np.asarray(image), _bits(image), getattr(image, "tag_v2", {})
    if bits > 16 or (levels < 0).any() or (levels > 65535).any():  # nothing says which of their levels is white
        raise ValueError("32-bit grey pixels; save it with 8 or 16 bits")
    if SIGNED in tags.get(ExifTags.Base.SampleFormat, ()):  # nothing says which of them is black
        raise ValueError("levels with a sign; save it with levels from 0 up")
    scaled = levels.clip(0, 2**bits - 1) / (2**bits - 1) * 255
    # Of 8 bits Pillow inverts them itself.
    if tags.get(ExifTags.Base.PhotometricInterpretation) == WHITE_IS_ZERO:
        scaled = 255 - scaled
    return Image.fromarray(scaled.round().astype(np.uint8)), f"{bits} bits rounded to 8"


def _bits(image: Image.Image) -> int:
    """The bits of a level, by the file if that is a TIFF; 16 for any other, of which Pillow makes as many."""
    return max(getattr(image, "tag_v2", {}).get(ExifTags.Base.BitsPerSample, (16,)))
