"""BlurGuard: a perturbation whose blur, region by region, leaves the picture's spectrum as it is.

Kim et al. 2025 (arXiv 2511.00143): δ is blurred by one Gaussian a region. In the first third of the steps the widths are fitted
so that the picture with blurred noise has the power of the clean one at every radius; then δ pulls the latent to zero, through
the blurs. Regions are SLIC's superpixels in place of the paper's Segment Anything. The radius of a frequency counts from zero
frequency; in the authors' code (MIT), whose spectrum is not shifted, it counts from the highest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from srlvae.attacks.engine.ball import Ball
from srlvae.attacks.engine.pgd import Loop, Objective, steepest
from srlvae.attacks.engine.rendered import Parameters, search_rendered
from srlvae.attacks.engine.several import VAEs, summed
from srlvae.images import Images
from srlvae.models.vae import VAE
from srlvae.rng import Generators, normal_like

# Of a kernel, in pixels; of the fit of the widths: weight of the spectrum's term, and learning rate of the logarithms.
REACH, WEIGHT, RATE = 16, 10.0, 0.06
# One plane a region, 1 inside and 0 elsewhere.
Regions = Float[Tensor, "regions 1 h w"]


def find_regions(image: Float[Tensor, "3 h w"], count: int) -> Regions:
    """About `count` regions by SLIC, Achanta et al. 2012."""
    # Loading it takes a second.
    from skimage.segmentation import slic

    labels = slic(image.permute(1, 2, 0).cpu().numpy().astype(np.float64), n_segments=count, start_label=0)
    kinds = np.unique(labels)
    return torch.from_numpy(labels[None] == kinds[:, None, None])[:, None].to(image)


def blur(delta: Float[Tensor, "3 h w"], widths: Float[Tensor, " regions"], regions: Regions) -> Float[Tensor, "3 h w"]:
    """The perturbation, in each region blurred by a Gaussian whose standard deviation is the region's width, in pixels."""
    copies = delta[None].expand(len(widths), -1, -1, -1)
    for axis in (-2, -1):
        copies = _blur_along(copies, widths, axis)
    return (copies * regions).sum(0)


def _blur_along(images: Float[Tensor, "n 3 h w"], widths: Float[Tensor, " n"], axis: int) -> Float[Tensor, "n 3 h w"]:
    reach = min(REACH, images.shape[axis] - 1)
    distance = torch.arange(-reach, reach + 1).to(images)
    kernels = (-distance.square() / (2 * widths[:, None].square())).exp()
    kernels = (kernels / kernels.sum(1, keepdim=True)).repeat_interleave(3, dim=0)[:, None]
    rows = axis == -2
    padded = F.pad(images, (0, 0, reach, reach) if rows else (reach, reach, 0, 0), mode="reflect").flatten(0, 1)[None]
    found = F.conv2d(padded, kernels[..., None] if rows else kernels[:, :, None], groups=len(kernels))
    return found.view_as(images)


def radial_power(image: Float[Tensor, "3 h w"]) -> Float[Tensor, " radii"]:
    """The power of the image's frequencies, summed over colours and over rings of one frequency's width around zero."""
    height, width = image.shape[-2:]
    power = torch.fft.fft2(image).abs().square().sum(0)
    down, across = torch.fft.fftfreq(height) * height, torch.fft.fftfreq(width) * width
    radius = (down[:, None].square() + across.square()).sqrt().round().long().to(power.device)
    return power.new_zeros(int(radius.max()) + 1).index_add(0, radius.flatten(), power.flatten())


def spectral_change(image: Float[Tensor, "3 h w"], other: Float[Tensor, "3 h w"]) -> Float[Tensor, ""]:
    """The largest difference of the logarithms (base 10) of two images' powers, over all radii."""
    return ((radial_power(image) + 1e-8).log10() - (radial_power(other) + 1e-8).log10()).abs().max()


def fit_widths(
    x: Images,
    found: Sequence[Float[Tensor, "_ 1 h w"]],
    eps: float,
    steps: int,
    generators: Generators,
    counted: Callable[[], None] = lambda: None,
) -> list[Float[Tensor, " _"]]:
    """For each image one width a region, in pixels, at which blurred noise leaves its spectrum as it is; from 1 on, by Adam.

    counted: called after each step.
    """
    logarithms = [torch.zeros(len(regions), device=x.device, requires_grad=True) for regions in found]
    optimizer = torch.optim.Adam(logarithms, lr=RATE)
    for _ in range(steps):
        # On [-1,1], where the authors draw it, noise has the standard deviation 1.
        noise = (normal_like(x, generators) / 2).clamp(-eps, eps)
        for image, delta, widths, regions in zip(x, noise, logarithms, found, strict=True):
            blurred = blur(delta, widths.exp(), regions).clamp(-eps, eps)
            loss = WEIGHT * spectral_change(image, (image + blurred).clamp(0, 1))
            (widths.grad,) = torch.autograd.grad(loss, [widths])
        optimizer.step()
        counted()
    return [widths.detach().exp() for widths in logarithms]


def blurguard_objective(vae: VAE, generators: Generators) -> Objective:
    """x′ ↦ the mean square of the scaled latent, a new draw from the posterior at every call."""
    return lambda adversarial: vae.to_scaled(vae.sample(adversarial, generators)).square().mean((1, 2, 3))


def blurguard(
    x: Images,
    *,
    vae: VAEs,
    ball: Ball,
    generators: Generators,
    regions: int = 8,
    loop: Loop | None = None,
) -> Images:
    """Attacked images whose latent is near zero, by a perturbation that is blurred and then put into the ball.

    The first third of the steps fits the widths. The others move δ along the gradient by `ball.step_size`, a root mean square
    over pixels, which falls as in the authors' code. regions: about how many.
    Raises ModuleNotFoundError if the extra `regions` is not installed.
    """
    fitted, loop = ball.steps // 3, loop or Loop()
    found = [find_regions(image, regions) for image in x]
    widths = fit_widths(x, found, 1.0 if ball.eps is None else ball.eps, fitted, generators, loop.counted)

    def render(delta: Parameters) -> Images:
        return x + torch.stack([blur(*of) for of in zip(delta, widths, found, strict=True)])

    def move(delta: Parameters, gradient: Parameters, number: int) -> Parameters:
        return delta - ball.step(fitted + number) * steepest(gradient, "rms")

    objective = summed(lambda of: blurguard_objective(of, generators), vae)
    rest = replace(ball, steps=ball.steps - fitted)
    settings = {"render": render, "move": move, "ball": rest, "loop": loop}
    return search_rendered(x, objective, torch.zeros_like(x), **settings, keep_best=False)
