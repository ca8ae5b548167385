"""Views for the expectation over transformations: what a defence does to an image, differentiable and drawn anew at every call.

Athalye et al. 2018 (arXiv 1707.07397). Handed to any attack as `view=`, with `repeats=` draws a step.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from srlvae.attacks.engine.pgd import View
from srlvae.images import Images
from srlvae.models.vae import VAE, Latents
from srlvae.rng import Generators

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


def random_resize(generators: Generators, low: float = 0.5) -> View:
    """Down to a random share of the sides, from `low` to 1, and back, bilinear with antialiasing."""

    def view(x: Images) -> Images:
        height, width = x.shape[-2:]
        rows = []
        for row, share in zip(x, _draw(generators, low, 1.0), strict=True):
            small = (max(1, round(share * height)), max(1, round(share * width)))
            down = F.interpolate(row[None], small, mode="bilinear", antialias=True)
            rows.append(F.interpolate(down, (height, width), mode="bilinear"))
        return torch.cat(rows)

    return view


def random_jpeg(generators: Generators, low: float = 50.0, high: float = 95.0) -> View:
    """JPEG of a random quality, from `low` to `high`; see `jpeg`."""

    def view(x: Images) -> Images:
        qualities = [round(q) for q in _draw(generators, low, high)]
        return torch.cat([jpeg(row[None], quality) for row, quality in zip(x, qualities, strict=True)])

    return view


# Images → latents.
Encode = Callable[[Images], Latents]
# In place of a view: draws from the posterior, for attacks that otherwise take its mean; see `encoder`.
SAMPLING = "sampling"
VIEWS: dict[str, Callable[[Generators], View]] = {"resize": random_resize, "jpeg": random_jpeg}


def encoder(vae: VAE, generators: Generators, sampled: bool) -> Encode:
    """The posterior's mean, or a new draw from it at every call: for the expectation over sampled latents."""
    return (lambda x: vae.sample(x, generators)) if sampled else vae.mean


def jpeg(x: Images, quality: int) -> Images:
    """JPEG at `quality` 1 to 100, chroma of half the sides (4:2:0); rounding passes the gradient straight.

    Tables are scaled as in the Independent JPEG Group's library.
    """
    height, width = x.shape[-2:]
    x = F.pad(x, (0, -width % 16, 0, -height % 16), mode="replicate")
    matrix = torch.tensor(YCBCR).to(x)
    y, cb, cr = torch.einsum("ij,bjhw->bihw", matrix, x * 255).split(1, dim=1)
    y = _quantise(y - 128, LUMINANCE, quality) + 128
    chroma = [_quantise(F.avg_pool2d(c, 2), CHROMINANCE, quality) for c in (cb, cr)]
    planes = torch.cat([y, *(F.interpolate(c, scale_factor=2, mode="bilinear") for c in chroma)], dim=1)
    rgb = torch.einsum("ij,bjhw->bihw", torch.linalg.inv(matrix), planes) / 255
    return rgb[..., :height, :width].clamp(0, 1)


def _quantise(plane: Float[Tensor, "b 1 h w"], table: tuple[tuple[int, ...], ...], quality: int) -> Float[Tensor, "b 1 h w"]:
    """The plane with the cosine coefficients of its 8 × 8 blocks rounded to multiples of the table's entries."""
    b, _, height, width = plane.shape
    scale = 5000 / quality if quality < 50 else 200 - 2 * quality
    steps = ((torch.tensor(table, dtype=torch.float32) * scale + 50) / 100).floor().clamp(1, 255).to(plane)
    basis = _cosines().to(plane)
    blocks = plane.reshape(b, height // 8, 8, width // 8, 8).transpose(2, 3)
    coefficients = basis @ blocks @ basis.T / steps
    rounded = coefficients + (coefficients.round() - coefficients).detach()
    blocks = basis.T @ (rounded * steps) @ basis
    return blocks.transpose(2, 3).reshape(b, 1, height, width)


@functools.cache
def _cosines() -> Float[Tensor, "8 8"]:
    """The orthonormal cosine transform of eight points, a row a frequency."""
    k, n = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
    basis = torch.cos(math.pi * (2 * n + 1) * k / 16) / 2
    basis[0] /= math.sqrt(2)
    return basis


def _draw(generators: Generators, low: float, high: float) -> list[float]:
    """A uniform number for each image."""
    return [low + (high - low) * torch.rand((), generator=g, device=g.device).item() for g in generators]
