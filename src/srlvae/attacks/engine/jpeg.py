"""JPEG as a differentiable function: to the cosine coefficients of blocks, in units of their quantisation steps, and back.

Chroma has half the sides (4:2:0), as most encoders write it. Tables are scaled as in the Independent JPEG Group's library.
"""

from __future__ import annotations

import functools
import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from srlvae.images import Images

# ITU-T T.81, annex K: the quantisation tables of luminance and chrominance at quality 50.
LUMINANCE = (
    (16, 11, 10, 16, 24, 40, 51, 61), (12, 12, 14, 19, 26, 58, 60, 55), (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62), (18, 22, 37, 56, 68, 109, 103, 77), (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101), (72, 92, 95, 98, 112, 100, 103, 99),
)  # fmt: skip
CHROMINANCE = (
    (17, 18, 24, 47, 99, 99, 99, 99), (18, 21, 26, 66, 99, 99, 99, 99), (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99), *(((99,) * 8,) * 4),
)  # fmt: skip
# JFIF's YCbCr of RGB, without the offset of the chroma.
YCBCR = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))
# The sides of images are extended to multiples of this.
UNIT = 16
# Of one plane or two: block rows, block columns, and the 8 × 8 frequencies of each block.
Luma = Float[Tensor, "b 1 rows columns 8 8"]
Chroma = Float[Tensor, "b 2 half_rows half_columns 8 8"]


def jpeg(x: Images, quality: int) -> Images:
    """JPEG at `quality` 1 to 100; rounding passes the gradient straight."""
    luma, chroma = (plane + (plane.round() - plane).detach() for plane in to_coefficients(x, quality))
    return to_images(luma, chroma, quality, x.shape[-2], x.shape[-1]).clamp(0, 1)


def to_coefficients(x: Images, quality: int) -> tuple[Luma, Chroma]:
    """The coefficients of images in quantisation steps, not rounded. Edges are repeated to whole units of 16 pixels."""
    height, width = x.shape[-2:]
    x = F.pad(x, (0, -width % UNIT, 0, -height % UNIT), mode="replicate")
    planes = torch.einsum("ij,bjhw->bihw", torch.tensor(YCBCR).to(x), x * 255)
    luma, chroma = planes[:, :1] - 128, F.avg_pool2d(planes[:, 1:], 2)
    return _to_blocks(luma) / _steps(LUMINANCE, quality).to(x), _to_blocks(chroma) / _steps(CHROMINANCE, quality).to(x)


def to_images(luma: Luma, chroma: Chroma, quality: int, height: int, width: int) -> Float[Tensor, "b 3 h w"]:
    """The images of coefficients in quantisation steps, cut to size and *not* clamped."""
    y = _from_blocks(luma * _steps(LUMINANCE, quality).to(luma)) + 128
    small = _from_blocks(chroma * _steps(CHROMINANCE, quality).to(luma))
    planes = torch.cat([y, F.interpolate(small, scale_factor=2, mode="bilinear")], dim=1)
    rgb = torch.einsum("ij,bjhw->bihw", torch.linalg.inv(torch.tensor(YCBCR).to(luma)), planes) / 255
    return rgb[..., :height, :width]


@functools.cache
@torch.no_grad()
def rms_of_a_step(quality: int, luma_alone: bool) -> float:
    """The root mean square, over pixels in [0,1], of moving every coefficient by one quantisation step of random sign.

    It is computed from the image of each single coefficient; clamping of the pixels is left out.
    """
    grey = torch.zeros(64, 1, 6, 6, 8, 8), torch.zeros(64, 2, 3, 3, 8, 8)
    flat, total = to_images(*grey, quality, 48, 48), 0.0
    for plane in (grey[0][:, 0],) if luma_alone else (grey[0][:, 0], grey[1][:, 0], grey[1][:, 1]):
        middle = plane[:, plane.shape[1] // 2, plane.shape[2] // 2].view(64, 64)
        middle.fill_diagonal_(1.0)
        blocks = plane.shape[1] * plane.shape[2]
        total += (to_images(*grey, quality, 48, 48) - flat).square().sum().item() * blocks / flat[0].numel()
        middle.zero_()
    return math.sqrt(total)


def _steps(table: tuple[tuple[int, ...], ...], quality: int) -> Float[Tensor, "8 8"]:
    """The quantisation steps at a quality."""
    scale = 5000 / quality if quality < 50 else 200 - 2 * quality
    return ((torch.tensor(table, dtype=torch.float32) * scale + 50) / 100).floor().clamp(1, 255)


def _to_blocks(planes: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c rows columns 8 8"]:
    b, c, height, width = planes.shape
    basis = _cosines().to(planes)
    return basis @ planes.reshape(b, c, height // 8, 8, width // 8, 8).transpose(3, 4) @ basis.T


def _from_blocks(blocks: Float[Tensor, "b c rows columns 8 8"]) -> Float[Tensor, "b c h w"]:
    b, c, rows, columns, _, _ = blocks.shape
    basis = _cosines().to(blocks)
    return (basis.T @ blocks @ basis).transpose(3, 4).reshape(b, c, rows * 8, columns * 8)


@functools.cache
def _cosines() -> Float[Tensor, "8 8"]:
    """The orthonormal cosine transform of eight points, a row a frequency."""
    k, n = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
    basis = torch.cos(math.pi * (2 * n + 1) * k / 16) / 2
    basis[0] /= math.sqrt(2)
    return basis
