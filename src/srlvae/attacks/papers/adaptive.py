"""An attack that knows the defence: it goes for both things that a hardened encoder was tuned to keep, with APGD.

Not published elsewhere; after the advice of Tramèr et al. 2020 (arXiv 2002.08347) to attack what the defence relies on.
"""

from __future__ import annotations

import torch

from srlvae.attacks.engine.apgd import apgd
from srlvae.attacks.engine.ball import Ball
from srlvae.attacks.engine.pgd import Loop, Objective
from srlvae.attacks.engine.several import VAEs, summed
from srlvae.attacks.engine.views import encoder
from srlvae.images import Images
from srlvae.models.autoencoder import drawn
from srlvae.models.vae import VAE, Latents
from srlvae.rng import Generators


def adaptive_objective(
    vae: VAE,
    x: Images,
    weight: float,
    draws: Generators | None = None,
    *,
    reconstruction: float = 1.0,
    variance: float = 0.0,
) -> Objective:
    """x′ ↦ −[ρ · MSE(D(E(x′)), x) + w · mean‖E(x′) − E(x)‖² / var E(x) + v · MSE(log σ²(x′), log σ²(x))].

    ρ is `reconstruction`, w `weight` and v `variance`; var E(x) is over the latent of each image. A VAE without a posterior has
    no last part. E of the attacked images is the mean, or with `draws` a new draw from the posterior at every call.
    """
    looks = variance > 0 and vae.has_posterior
    with torch.no_grad():
        latents = vae.mean(x)
        log_variance = vae.posterior(x)[1] if looks else None
    spread = latents.flatten(1).var(1)

    def encoded(images: Images) -> tuple[Latents, Latents | None]:
        """The latent and, where it counts, the log-variance: in one pass of the encoder."""
        if not looks:
            return encoder(vae, draws or (), draws is not None)(images), None
        mean, own = vae.posterior(images)
        return (drawn(mean, own, draws) if draws else mean), own

    def objective(adversarial: Images):
        z, own = encoded(adversarial)
        harm = weight * ((z - latents).square().mean((1, 2, 3)) / spread)
        if reconstruction:
            harm = reconstruction * (vae.decode(z) - x).square().mean((1, 2, 3)) + harm
        if own is not None and log_variance is not None:
            harm = harm + variance * (own - log_variance).square().mean((1, 2, 3))
        return -harm

    return objective


def adaptive(
    x: Images,
    *,
    vae: VAEs,
    ball: Ball,
    generators: Generators,
    weight: float = 0.02,
    reconstruction: float = 1.0,
    variance: float = 0.0,
    sampled: bool = False,
    loop: Loop | None = None,
) -> Images:
    """Attacked images with a bad reconstruction and a far latent, by APGD, which finds its own step.

    weight, reconstruction, variance: what its parts count for; see `adaptive_objective`.
    sampled: attack draws from the posterior in place of its mean, see `repeats` of `Loop`.
    """

    def objective(of: VAE) -> Objective:
        draws = generators if sampled else None
        return adaptive_objective(of, x, weight, draws, reconstruction=reconstruction, variance=variance)

    return apgd(x, summed(objective, vae), ball, generators=generators, loop=loop)
