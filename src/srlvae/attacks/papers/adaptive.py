"""An attack that knows the defence: it goes for both things that a hardened encoder was tuned to keep, with APGD.

Not published elsewhere; after the advice of Tramèr et al. 2020 (arXiv 2002.08347) to attack what the defence relies on.
"""

from __future__ import annotations

import torch

from srlvae.attacks.engine.apgd import apgd
from srlvae.attacks.engine.ball import Ball
from srlvae.attacks.engine.pgd import Loop, Objective
from srlvae.attacks.engine.several import VAEs, summed
from srlvae.attacks.engine.views import Encode, encoder
from srlvae.images import Images
from srlvae.models.vae import VAE
from srlvae.rng import Generators


def adaptive_objective(vae: VAE, x: Images, weight: float, encode: Encode | None = None) -> Objective:
    """x′ ↦ −[MSE(D(E(x′)), x) + weight · mean‖E(x′) − E(x)‖² / var E(x)], the variance over the latent of each image.

    encode: E of the attacked images, the mean by default.
    """
    encode = encode or vae.mean
    with torch.no_grad():
        latents = vae.mean(x)
    spread = latents.flatten(1).var(1)

    def objective(adversarial: Images):
        z = encode(adversarial)
        shift = (z - latents).square().mean((1, 2, 3)) / spread
        return -((vae.decode(z) - x).square().mean((1, 2, 3)) + weight * shift)

    return objective


def adaptive(
    x: Images,
    *,
    vae: VAEs,
    ball: Ball,
    generators: Generators,
    weight: float = 0.02,
    sampled: bool = False,
    loop: Loop | None = None,
) -> Images:
    """Attacked images with a bad reconstruction and a far latent, by APGD, which finds its own step.

    sampled: attack draws from the posterior in place of its mean, see `repeats` of `Loop`.
    """

    def objective(of: VAE) -> Objective:
        return adaptive_objective(of, x, weight, encoder(of, generators, sampled))

    return apgd(x, summed(objective, vae), ball, generators=generators, loop=loop)
