"""Distances between two batches of images, one number for each pair."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from srlvae.images import Images, check_images

PerImage = Float[Tensor, " b"]


def psnr(x: Images, y: Images) -> PerImage:
    """The peak signal-to-noise ratio in dB of images in [0,1]. It is infinite for equal images."""
    return -10 * (check_images(x) - check_images(y)).square().mean((1, 2, 3)).log10()


def squared_shift(x: Float[Tensor, "b c h w"], reference: Float[Tensor, "b c h w"]) -> PerImage:
    """‖x − reference‖² / ‖reference‖² for latents: how far they lie from the reference, whatever their scale."""
    return (x - reference).flatten(1).square().sum(1) / reference.flatten(1).square().sum(1)


def ssim(x: Images, y: Images) -> PerImage:
    """The structural similarity (Wang et al. 2004, eq. 13) of images in [0,1].

    The window is a Gaussian of 11 pixels with σ = 1.5, and K = 0.01, 0.03. The mean is over channels and over the positions
    where the window fits. Raises ValueError for images under 11 pixels.
    """
    if min(check_images(x).shape[-2:] + check_images(y).shape[-2:]) < 11:
        raise ValueError(f"SSIM needs at least 11 x 11 pixels, got {tuple(x.shape[-2:])}")
    ticks = torch.arange(11, dtype=x.dtype, device=x.device) - 5
    line = torch.exp(-ticks.square() / (2 * 1.5**2))
    line = line / line.sum()
    window = torch.outer(line, line).expand(3, 1, 11, 11)

    def blur(t: Tensor) -> Tensor:
        return F.conv2d(t, window, groups=3)

    c1, c2 = 0.01**2, 0.03**2
    mx, my = blur(x), blur(y)
    vx, vy, cov = blur(x * x) - mx**2, blur(y * y) - my**2, blur(x * y) - mx * my
    similarity = (2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
    return similarity.mean((1, 2, 3))


def feature_distance(columns_x: list[Tensor], columns_y: list[Tensor]) -> PerImage:
    """The squared distance of feature columns, averaged over space and summed over stages (Zhang et al. 2018, eq. 1).

    It takes what `Features.columns` returns, so that the columns of clean images are computed once. On the columns of `lpips-*`
    it is LPIPS. On those of EfficientNet-Lite it is not, and must not be called so.
    """
    stages = [(a - b).square().sum(1).mean((1, 2)) for a, b in zip(columns_x, columns_y, strict=True)]
    return torch.stack(stages).sum(0)


def detail(x: Images, window: int = 8) -> Float[Tensor, "b rows columns"]:
    """The local sharpness of images: log energy, in windows of `window` pixels, of what a blur over 5 pixels removes."""

    def box(t: Tensor) -> Tensor:  # pooling, since autocast would run a convolution in half precision
        return F.avg_pool2d(t, 3, stride=1, padding=1, count_include_pad=False)

    fine = x - box(box(x))
    # The floor is about the energy of rounding to grey levels.
    return (F.avg_pool2d(fine.square(), window).mean(1) + 1e-5).log()


def detail_distance(detail_x: Float[Tensor, "b rows columns"], detail_y: Float[Tensor, "b rows columns"]) -> PerImage:
    """The squared difference of two results of `detail`. It grows with blur and with noise; squared error prefers blur."""
    return (detail_x - detail_y).square().mean((1, 2))
