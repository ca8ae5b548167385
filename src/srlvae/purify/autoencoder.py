"""Purifiers that use the VAE itself: a round trip through it, and IMPRESS."""

from __future__ import annotations

import torch

from srlvae.events import Listener
from srlvae.images import Images
from srlvae.metrics.features import load_features
from srlvae.metrics.pairwise import feature_distance
from srlvae.models.vae import VAE
from srlvae.purify.table import Purifier
from srlvae.rng import Generators, normal_like

# In place of the LPIPS of IMPRESS, whose weights do not come with the package.
NETWORK = "efficientnet-lite0"


@torch.no_grad()
def round_trip(x: Images, *, generators: Generators, vae: VAE) -> Images:
    """Encode and decode the images: D(E(x))."""
    return vae.reconstruct(x)


def impress(
    x: Images,
    *,
    generators: Generators,
    vae: VAE,
    steps: int,
    learning_rate: float,
    weight: float,
    budget: float,
    sigma: float,
    listener: Listener | None = None,
) -> Images:
    """Minimise MSE(D(E(x′)), x′) + weight · max(P(x′, x) − budget, 0) over x′, by Adam from `x` and noise of deviation `sigma`.

    IMPRESS (Cao et al. 2023, arXiv 2310.19248, eq. 5) rests on the observation that a VAE does not reproduce a protected image.
    P is LPIPS in the paper and EfficientNet-Lite0's feature distance here, whose scale is another, so that `budget` is not the
    published one. `learning_rate` and `sigma` refer to images in [0,1], so they are half of those in the authors' code, whose
    images are in [-1,1]. The `listener` may stop it after an iteration.
    """
    features = load_features(NETWORK).to(x.device)
    with torch.no_grad():
        columns = features.columns(x)
    y = (x + sigma * normal_like(x, generators)).clamp(0, 1).requires_grad_()
    optimizer = torch.optim.Adam([y], learning_rate)
    for _ in range(steps):
        if listener:
            listener.check()
        # On [-1,1], as the weight was chosen there: four times the squared error.
        inconsistent = 4 * (vae.decode(vae.mean(y)) - y).square().mean((1, 2, 3))
        beyond = (feature_distance(features.columns(y), columns) - budget).clamp_min(0)
        (gradient,) = torch.autograd.grad((inconsistent + weight * beyond).sum(), y)
        y.grad = gradient
        optimizer.step()
        with torch.no_grad():
            y.clamp_(0, 1)
    return y.detach()


ROUND_TRIP = Purifier(round_trip, "the VAE there and back", "vae")
IMPRESS = Purifier(
    impress,
    "IMPRESS, arXiv 2310.19248; its script: 3000 iterations, rate .01, weight .1, budget .1 in LPIPS, noise .1 on [-1,1]; here "
    "the budget is one in EfficientNet-Lite0's distance, whose scale is another",
    "vae",
    {"steps": 3000, "learning_rate": 0.005, "weight": 0.1, "budget": 0.1, "sigma": 0.05},
    {"steps": 2},
)
