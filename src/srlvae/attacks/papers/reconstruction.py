"""The inner attack of SRL-VAE: make the reconstruction as unlike the clean image as the budget allows.

Lee et al. 2025 (arXiv 2504.17219): max over δ of MSE(D(E(x+δ)), x) + λ · P(D(E(x+δ)), x).
"""

from __future__ import annotations

from torch import Tensor

from srlvae.attacks.engine.ball import Ball
from srlvae.attacks.engine.pgd import Loop, Objective, pgd
from srlvae.attacks.engine.several import VAEs, summed
from srlvae.attacks.engine.views import Encode, encoder
from srlvae.images import Images
from srlvae.metrics.features import Features
from srlvae.metrics.pairwise import feature_distance
from srlvae.models.vae import VAE
from srlvae.rng import Generators


def reconstruction_objective(
    vae: VAE,
    x: Images,
    features: Features | None = None,
    weight: float = 0.0,
    columns: list[Tensor] | None = None,
    encode: Encode | None = None,
) -> Objective:
    """x′ ↦ −[MSE(D(E(x′)), x) + weight · P(D(E(x′)), x)], P the distance on `features`.

    columns: those of the clean images where they are known already, of as many stages as P compares; else all of them,
    computed once. encode: E of the attacked images, the mean by default.
    """
    encode = encode or vae.mean
    clean = (columns or features.columns(x)) if features and weight else None

    def objective(adversarial: Images):
        y = vae.decode(encode(adversarial))
        loss = (y - x).square().mean((1, 2, 3))
        if features and clean:
            loss = loss + weight * feature_distance(features.columns(y, len(clean)), clean)
        return -loss

    return objective


def reconstruction(
    x: Images,
    *,
    vae: VAEs,
    ball: Ball,
    generators: Generators | None = None,
    features: Features | None = None,
    weight: float = 0.0,
    sampled: bool = False,
    loop: Loop | None = None,
) -> Images:
    """Attacked images of the strongest reconstruction attack; see `reconstruction_objective` and `pgd`.

    sampled: attack draws from the posterior in place of its mean, see `repeats` of `Loop`; wants generators.
    """

    def objective(of: VAE) -> Objective:
        return reconstruction_objective(of, x, features, weight, encode=encoder(of, generators or (), sampled))

    return pgd(x, summed(objective, vae), ball, generators=generators, loop=loop, keep_best=False if sampled else None)
