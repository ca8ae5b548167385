"""Noise that is no attack, by name: what every attack has to be compared with, at its ε and at its own root mean square."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from srlvae.images import Images
from srlvae.rng import Generators, uniform_like


def noisy(x: Images, name: str, eps: float | Float[Tensor, " b"], generators: Generators) -> Images:
    """The images with noise within ±eps: uniform, or of random sign and all of the size eps. Clamped to [0,1].

    eps: for all images, or one an image. `name` is one of NOISES.
    """
    draw = uniform_like(x, generators)
    draw = draw if name == "uniform-noise" else torch.where(draw < 0, -1.0, 1.0)
    return (x + torch.as_tensor(eps).to(x).view(-1, 1, 1, 1) * draw).clamp(0, 1)


def signs_of_rms(x: Images, rms: Float[Tensor, " b"], generators: Generators) -> Images:
    """The images with noise of random sign of that root mean square; see `size_of` for an attack's own. Clamped to [0,1].

    It is made of whole grey levels, to which 8-bit images would be rounded: each pixel is moved by the level below or the level
    above the root mean square, drawn so that the mean square is as wanted before it is clamped. On white and black half of it
    is cut off there; turned inwards, it would grey the picture, as no noise does.
    """
    sign, draw = (uniform_like(x, generators) for _ in range(2))
    wanted = 255 * rms.view(-1, 1, 1, 1)
    below = wanted.floor()
    above = (draw + 1) / 2 < (wanted**2 - below**2) / (2 * below + 1)
    return (x + torch.where(sign < 0, -1.0, 1.0) * (below + above) / 255).clamp(0, 1)
