"""PID: move the posterior, mean and log-variance at once, since pipelines draw from both.

Li et al. 2024 (arXiv 2406.15305), the loss `add-log` of their code:
max over δ of MSE(μ(x+δ), μ(x)) + MSE(log σ²(x+δ), log σ²(x)).
Beside it the log-variance alone, which drowns every draw in noise where an encoder leaves it free.
"""

from __future__ import annotations

import torch

from srlvae.attacks.engine.ball import Ball
from srlvae.attacks.engine.pgd import Loop, Objective, pgd
from srlvae.attacks.engine.several import VAEs, summed
from srlvae.images import Images
from srlvae.models.vae import VAE
from srlvae.rng import Generators


def pid_objective(vae: VAE, x: Images) -> Objective:
    """x′ ↦ −[MSE(μ(x′), μ(x)) + MSE(log σ²(x′), log σ²(x))]. Raises InputError for a VAE without a posterior."""
    with torch.no_grad():
        mean, log_variance = vae.posterior(x)

    def objective(adversarial: Images):
        moved, log_moved = vae.posterior(adversarial)
        return -((moved - mean).square() + (log_moved - log_variance).square()).mean((1, 2, 3))

    return objective


def variance_objective(vae: VAE) -> Objective:
    """x′ ↦ −mean log σ²(x′). Raises InputError for a VAE without a posterior."""
    return lambda adversarial: -vae.posterior(adversarial)[1].mean((1, 2, 3))


def pid(
    x: Images,
    *,
    vae: VAEs,
    ball: Ball,
    generators: Generators,
    variance_alone: bool = False,
    loop: Loop | None = None,
) -> Images:
    """Attacked images whose posterior lies far from the clean one's. Needs a random start: at δ = 0 the gradient is zero.

    variance_alone: raise the log-variance and leave the mean to itself.
    Raises InputError for a VAE without a posterior.
    """

    def objective(of: VAE) -> Objective:
        return variance_objective(of) if variance_alone else pid_objective(of, x)

    return pgd(x, summed(objective, vae), ball, generators=generators, loop=loop)
