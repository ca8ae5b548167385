"""Noise that is no attack, by name: what every attack has to be compared with, at its ε and at its own root mean square."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from srlvae.attacks.table import NOISES
from srlvae.images import Images
from srlvae.rng import Generators, uniform_like


def noisy(x: Images, name: str, eps: float | Float[Tensor, " b"], generators: Generators) -> Images:
    """The images with noise within ±eps: uniform, or of random sign and all of the size eps. Clamped to [0,1].

    eps: for all images, or one an image. `name` is one of NOISES.
    """
    draw = uniform_like(x, generators)
    draw = draw if name == "uniform-noise" else torch.where(draw < 0, -1.0, 1.0)
    return (x + torch.as_tensor(eps).to(x).view(-1, 1, 1, 1) * draw).clamp(0, 1)


def eps_of_rms(name: str, rms: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
    """The eps at which noise has that root mean square, before it is clamped; see `size_of` for an attack's own."""
    return rms / NOISES[name]
