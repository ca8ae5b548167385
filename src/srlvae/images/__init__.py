"""Images: the contract (float32 `batch 3 height width`, sRGB, in [0,1]), and all reading and writing of files.

Every command follows one rule: `walk` finds the files, `read` reads them, and what cannot be used goes into `left_out`.
"""

from __future__ import annotations

from srlvae.images.boundary import digest_of_picture, read_content
from srlvae.images.carried import Carried
from srlvae.images.contract import (
    ROUNDING,
    Images,
    check_eps,
    check_images,
    pad_to_multiple,
    to_levels,
    to_pil,
    to_tensor,
)
from srlvae.images.formats import SUFFIXES, set_max_pixels
from srlvae.images.left_out import LeftOut
from srlvae.images.read import (
    Picture,
    fit,
    image_size,
    open_cell,
    open_rgb,
    read_fitted,
    read_image,
    read_picture,
    read_rgb,
    read_square,
)
from srlvae.images.sources import Source, find_sources
from srlvae.images.walk import count_others, find_images
from srlvae.images.write import SHEET, tile, write_contact_sheet, write_image

__all__ = [
    "ROUNDING",
    "SHEET",
    "SUFFIXES",
    "Carried",
    "Images",
    "LeftOut",
    "Picture",
    "Source",
    "check_eps",
    "check_images",
    "count_others",
    "digest_of_picture",
    "find_images",
    "find_sources",
    "fit",
    "image_size",
    "open_cell",
    "open_rgb",
    "pad_to_multiple",
    "read_content",
    "read_fitted",
    "read_image",
    "read_picture",
    "read_rgb",
    "read_square",
    "set_max_pixels",
    "tile",
    "to_levels",
    "to_pil",
    "to_tensor",
    "write_image",
    "write_contact_sheet",
]
