"""The untargeted latent attack: move the mean latent as far as the budget allows.

Schlarmann et al. 2024 (FARE, arXiv 2402.12336), eq. 3, on a VAE: max over δ of ‖E(x+δ) − E₀(x)‖².
"""

from __future__ import annotations

from srlvae.attacks.pgd import Images, Mask, Objective, pgd
from srlvae.rng import Generators
from srlvae.vae import VAE, Latents


def latent_objective(vae: VAE, reference: Latents) -> Objective:
    """x′ ↦ −mean‖E(x′) − reference‖² over the latent's elements; `reference` is usually E(x) itself."""

    def objective(adversarial: Images):
        return -(vae.mean(adversarial) - reference).square().mean((1, 2, 3))

    return objective


def latent(
    x: Images,
    *,
    vae: VAE,
    eps: float,
    steps: int,
    step_size: float,
    generators: Generators,
    mask: Mask | None = None,
) -> Images:
    """Attacked images whose latent lies far from the clean one's. Needs a random start: at δ = 0 the gradient is zero."""
    objective = latent_objective(vae, vae.mean(x).detach())
    return pgd(x, objective, eps=eps, steps=steps, step_size=step_size, generators=generators, mask=mask)
