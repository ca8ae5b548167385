"""Posterior collapse: move the encoder's posterior to a prior that says nothing, or away from it.

Guo et al. 2024 (arXiv 2408.10901): the divergence KL(N(μ, σ²) ‖ N(0, v)), up to a constant ½ Σ ((μ² + σ²)/v − log σ² − 1).
PCA− lowers it with v = 10⁻⁸, which pulls the mean to zero as PhotoGuard does; PCA+ raises it with v = 1.
"""

from __future__ import annotations

from functools import partial

from srlvae.attacks.engine.ball import Ball
from srlvae.attacks.engine.pgd import Loop, Objective, pgd
from srlvae.attacks.engine.several import VAEs, summed
from srlvae.images import Images
from srlvae.models.vae import VAE
from srlvae.rng import Generators

NARROW, WIDE = 1e-8, 1.0


def divergence_objective(vae: VAE, variance: float, sign: int) -> Objective:
    """x′ ↦ sign · ½ Σ (μ² + σ² − variance · (log σ² + 1)). Raises InputError for a VAE without a posterior.

    It is the divergence times the prior's variance, since float16 does not hold a gradient over 10⁻⁸.
    """

    def objective(adversarial: Images):
        mean, log_variance = vae.posterior(adversarial)
        terms = mean.square() + log_variance.exp() - variance * (log_variance + 1)
        return sign * terms.sum((1, 2, 3)) / 2

    return objective


def collapse(
    x: Images,
    *,
    vae: VAEs,
    ball: Ball,
    generators: Generators,
    variance: float,
    sign: int,
    loop: Loop | None = None,
) -> Images:
    """Attacked images with a small (sign 1) or a large (sign −1) divergence from the prior of `variance`.

    Raises InputError for a VAE without a posterior.
    """
    objective = summed(lambda of: divergence_objective(of, variance, sign), vae)
    return pgd(x, objective, ball, generators=generators, loop=loop)


pca_minus, pca_plus = partial(collapse, variance=NARROW, sign=1), partial(collapse, variance=WIDE, sign=-1)
