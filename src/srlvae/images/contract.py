"""The image contract: float32 `batch 3 height width`, sRGB, in [0,1]; checked here, and turned into pictures and back."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from srlvae.errors import InputError

Images = Float[Tensor, "b 3 h w"]
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
        raise InputError(
            f"eps must lie in [0,1]; write {eps:g}/255 for {eps:g} grey levels"
            if eps > 1
            else f"eps must lie in [0,1], got {eps:g}"
        )
    return eps


def to_tensor(image: Image.Image) -> Float[Tensor, "3 h w"]:
    """Convert an 8-bit RGB picture to a float32 tensor in [0,1]."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous().float() / 255


def to_levels(x: Tensor) -> Tensor:
    """Convert `x` in [0,1] to 8-bit levels by rounding to nearest. Truncation would shift a quarter of all levels by one."""
    return (x.detach() * 255).round().clamp(0, 255).to(torch.uint8)


def to_pil(x: Float[Tensor, "3 h w"]) -> Image.Image:
    """Convert a tensor in [0,1] to an 8-bit RGB picture, rounding to nearest."""
    return Image.fromarray(to_levels(x).permute(1, 2, 0).cpu().numpy())


def pad_to_multiple(x: Tensor, factor: int) -> Tensor:
    """Extend height and width to multiples of `factor`, by repeating the right and the bottom edge."""
    height, width = x.shape[-2:]
    return F.pad(x, (0, -width % factor, 0, -height % factor), mode="replicate")
