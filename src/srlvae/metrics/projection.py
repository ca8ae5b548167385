"""Feature vectors in few fixed directions, in which a Fréchet distance means something for some hundred images.

A Fréchet distance between two sets of n vectors of d numbers is mostly the noise of finite sets where n is not far larger than
d (Chong and Forsyth 2020, arXiv 1911.07023). In 32 directions some hundred images are enough. The directions are fixed before
anything is measured: the first principal components of real photographs, which come with the package.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor

from srlvae.zoo import FOLDER

DIRECTIONS = FOLDER / "directions"
# How many directions the bundled files have.
DIMENSIONS = 32


@dataclass(frozen=True)
class Projection:
    """The vectors `n d` of a feature network as coordinates `n k` along orthonormal directions, from a centre."""

    centre: Float[Tensor, " d"]
    directions: Float[Tensor, "k d"]

    def __call__(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n k"]:
        """The coordinates of vectors, in float64."""
        return (x.double() - self.centre.double()) @ self.directions.double().T

    def fingerprint(self) -> str:
        """The SHA-256 of the centre and the directions."""
        return hashlib.sha256(torch.cat([self.centre[None], self.directions]).float().numpy().tobytes()).hexdigest()


def fit_projection(x: Float[Tensor, "n d"], dimensions: int = DIMENSIONS) -> Projection:
    """The first principal components of the vectors of real photographs. Raises ValueError for fewer vectors than those."""
    if len(x) <= dimensions or x.shape[1] < dimensions:
        raise ValueError(f"{dimensions} directions need more vectors, of at least as many numbers; got {tuple(x.shape)}")
    centre = x.double().mean(0)
    directions = torch.linalg.svd(x.double() - centre, full_matrices=False).Vh[:dimensions]
    return Projection(centre.float(), directions.float().contiguous())


def load_projection(network: str, folder: Path = DIRECTIONS) -> Projection | None:
    """The bundled directions of the feature network of that name, or None if there are none."""
    file = folder / f"{network}.safetensors"
    return Projection(**load_file(file)) if file.is_file() else None
