"""The untargeted latent attack: move the mean latent as far as the budget allows.

Schlarmann et al. 2024 (FARE, arXiv 2402.12336), eq. 3, on a VAE: max over δ of ‖E(x+δ) − E₀(x)‖².
"""

from __future__ import annotations

from srlvae.attacks.engine.ball import Ball
from srlvae.attacks.engine.pgd import Loop, Objective, pgd
from srlvae.attacks.engine.several import VAEs, summed
from srlvae.attacks.engine.views import Encode, encoder
from srlvae.images import Images
from srlvae.models.vae import VAE, Latents
from srlvae.rng import Generators


def latent_objective(vae: VAE, reference: Latents, encode: Encode | None = None) -> Objective:
    """x′ ↦ −mean‖E(x′) − reference‖² over the latent's elements; `reference` is usually E(x) itself.

    encode: E of the attacked images, the mean by default.
    """
    encode = encode or vae.mean

    def objective(adversarial: Images):
        return -(encode(adversarial) - reference).square().mean((1, 2, 3))

    return objective


def latent(
    x: Images,
    *,
    vae: VAEs,
    ball: Ball,
    generators: Generators,
    sampled: bool = False,
    loop: Loop | None = None,
) -> Images:
    """Attacked images whose latent lies far from the clean one's. Needs a random start: at δ = 0 the gradient is zero.

    sampled: attack draws from the posterior in place of its mean, see `repeats` of `Loop`.
    """

    def objective(of: VAE) -> Objective:
        return latent_objective(of, of.mean(x).detach(), encoder(of, generators, sampled))

    return pgd(x, summed(objective, vae), ball, generators=generators, loop=loop, keep_best=False if sampled else None)
