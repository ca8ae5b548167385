"""Square on an autoencoder: the same aims as the gradient attacks', reached by queries alone.

Andriushchenko et al. 2020 (arXiv 1912.00049). Where it does more harm than an attack by gradients, a defence hides its
gradients (Athalye et al. 2018, arXiv 1802.00420).
"""

from __future__ import annotations

from typing import Literal

from srlvae.attacks.engine.ball import Ball
from srlvae.attacks.engine.pgd import Loop, Objective
from srlvae.attacks.engine.several import VAEs, summed
from srlvae.attacks.engine.square import square as random_search
from srlvae.attacks.papers.latent import latent_objective
from srlvae.attacks.papers.photoguard import photoguard_encoder_objective
from srlvae.attacks.papers.reconstruction import reconstruction_objective
from srlvae.images import Images
from srlvae.models.vae import VAE
from srlvae.rng import Generators

Aim = Literal["reconstruction", "latent", "zero"]


def square(
    x: Images,
    *,
    vae: VAEs,
    ball: Ball,
    generators: Generators,
    aim: Aim = "reconstruction",
    loop: Loop | None = None,
) -> Images:
    """Attacked images by random search for a bad reconstruction, a far latent, or (as PhotoGuard) a latent near zero."""

    def objective(of: VAE) -> Objective:
        if aim == "zero":
            return photoguard_encoder_objective(of)
        return reconstruction_objective(of, x) if aim == "reconstruction" else latent_objective(of, of.mean(x).detach())

    return random_search(x, summed(objective, vae), ball, generators=generators, loop=loop)
