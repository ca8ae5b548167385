"""The pictures that a request gives, a target and a mask, in the shape of the images that are attacked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from srlvae.errors import InputError
from srlvae.images import Images, pad_to_multiple, read_fitted, read_picture


def padded_target(path: Path, x: Images, factor: int) -> Float[Tensor, "1 3 _ _"]:
    """The picture in `path` in the size of `x`, padded like it to multiples of `factor`, as a batch of one."""
    return pad_to_multiple(_fitted(path, x), factor)


def padded_mask(path: Path | None, x: Images, factor: int) -> Float[Tensor, "b 1 _ _"] | None:
    """Where pixels may change, padded like the images: not in the padding, which is cut off again. None for everywhere.

    Raises InputError for a mask that is transparent or has other proportions than the images.
    """
    height, width = -x.shape[-2] % factor, -x.shape[-1] % factor
    if not (path or height or width):
        return None
    if path:
        _check_mask(path, x)
    mask = (_fitted(path, x)[:, :1] > 0.5).to(x) if path else torch.ones_like(x[:1, :1])
    return F.pad(mask, (0, width, 0, height)).repeat(len(x), 1, 1, 1)


def _check_mask(mask: Path, x: Images) -> None:
    """A mask of other proportions would mark other pixels than it shows, and a transparent one would be laid on white."""
    picture = read_picture(mask)
    if picture.alpha and np.asarray(picture.alpha).min() < 255:
        raise InputError(f"{mask} is transparent in places; save it without transparency, white where pixels may change")
    width, height = picture.rgb.size
    if abs(width * x.shape[-2] - height * x.shape[-1]) > max(width, height) + max(x.shape[-2:]):
        sizes = f"{width} x {height}, and an image {x.shape[-1]} x {x.shape[-2]}"
        raise InputError(f"{mask} is {sizes}: give it the same proportions")


def _fitted(path: Path, x: Images) -> Float[Tensor, "1 3 h w"]:
    """The picture in `path` in the shape of `x`, as a batch of one."""
    return read_fitted(path, x.shape[-2], x.shape[-1])[None].to(x)
