"""What evidence is normal on clean images, and the score above which an image is suspicious."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from srlvae.errors import InputError
from srlvae.scan.evidence import TINY

# Two images always lie on a line; what is left of others tells how far images lie from it.
FEWEST = 4


@dataclass(frozen=True)
class Normal:
    """The evidence that clean images have.

    `weights` are the least-squares regression of parting and change on disagreement and 1. `deviations` are the standard
    deviations of the residuals.
    """

    weights: Float[Tensor, "2 2"]
    deviations: Float[Tensor, " 2"]

    def scores(self, found: Float[Tensor, "n 3"]) -> Float[Tensor, " n"]:
        """The score of each image: how far its parting and its change lie above normal, in standard deviations, added up."""
        return ((found[:, :2] - _regressors(found) @ self.weights) / self.deviations).sum(1).float()


def _regressors(found: Float[Tensor, "n 3"]) -> Float[Tensor, "n 2"]:
    return torch.stack([found[:, 2], torch.ones(len(found))], 1).double()


def check_enough(n: int, rate: float) -> None:
    """Raise InputError if `n` clean images are too few to show a false-alarm rate of `rate`."""
    if math.floor(rate * (n + 1)) < 1 or n < FEWEST:
        needed = max(math.ceil(1 / rate) - 1, FEWEST)
        raise InputError(f"{n} clean images cannot show a rate of {rate:g}; give {needed} or more")


def calibrate(clean: Float[Tensor, "n 3"], rate: float) -> tuple[Normal, float]:
    """Fit what is normal, and find the threshold that a new clean image exceeds with a probability of at most `rate`.

    Every clean image is scored by the regression on all the others. The k-th largest of n such scores is exceeded by another
    one with probability k / (n + 1).

    Raises InputError if there are too few clean images for the rate.
    """
    check_enough(len(clean), rate)
    k = min(math.floor(rate * (len(clean) + 1)), len(clean))
    regressors, signs = _regressors(clean), clean[:, :2].double()
    inverse = torch.linalg.pinv(regressors)
    weights = inverse @ signs
    # The residual of the regression without that image.
    residuals = (signs - regressors @ weights) / (1 - (regressors * inverse.T).sum(1, keepdim=True)).clamp(min=TINY)
    deviations = residuals.std(0).clamp(min=TINY)
    scores = (residuals / deviations).sum(1).sort(descending=True).values
    return Normal(weights, deviations), scores[k - 1].item()
