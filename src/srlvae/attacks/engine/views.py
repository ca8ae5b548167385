"""Views for the expectation over transformations: what a defence does to an image, differentiable and drawn anew at every call.

Athalye et al. 2018 (arXiv 1707.07397). Handed to any attack as `view=`, with `repeats=` draws a step.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn import functional as F

from srlvae.attacks.engine.jpeg import jpeg
from srlvae.attacks.engine.pgd import View
from srlvae.images import Images
from srlvae.models.vae import VAE, Latents
from srlvae.rng import Generators


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


def _draw(generators: Generators, low: float, high: float) -> list[float]:
    """A uniform number for each image."""
    return [low + (high - low) * torch.rand((), generator=g, device=g.device).item() for g in generators]
