"""Scores by the clean images nearest by: what is far above normal among photographs is not among noisy pictures."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

# Clean images nearest to an image whose scores it is compared with, and as how many more the scores of all of them count.
NEAREST, PRIOR = 40, 40


@dataclass(frozen=True)
class Surroundings:
    """The scores of clean images, each by the regression on the others, and their places among the traits."""

    places: Float[Tensor, "n t"]
    scores: Float[Tensor, " n"]

    def standard(self, scores: Float[Tensor, " m"], places: Float[Tensor, "m t"], skip: int = 0) -> Float[Tensor, " m"]:
        """Scores in standard deviations above the mean of the clean images nearest by.

        Mean and variance are those of the NEAREST, drawn towards those of all. skip: how many of the nearest to leave out, 1
        where the images are the clean ones themselves.
        """
        near = min(NEAREST, len(self.scores) - skip)
        # In parts, as a table of all distances would grow with the number of images.
        parts = [torch.cdist(part, self.places).topk(near + skip, dim=1, largest=False).indices for part in places.split(1024)]
        found = self.scores[torch.cat(parts)[:, skip:]]
        weight = near / (near + PRIOR)
        spread = (found - found.mean(1, keepdim=True)).square().mean(1)
        mean = weight * found.mean(1) + (1 - weight) * self.scores.mean()
        variance = weight * spread + (1 - weight) * self.scores.var(correction=0)
        return (scores - mean) / variance.sqrt().clamp(min=1e-6)
