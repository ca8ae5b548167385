"""PhotoGuard's encoder attack: pull the latent to a target, so that an edit has nothing of the image to hold on to.

Salman et al. 2023 (arXiv 2302.06588), eq. 3: min over δ of ‖E(x+δ) − t‖₂.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from srlvae.attacks.pgd import Images, Mask, Objective, pgd
from srlvae.rng import Generators
from srlvae.vae import VAE, Latents


def photoguard_encoder_objective(vae: VAE, target: Latents | float = 0.0) -> Objective:
    """x′ ↦ ‖E(x′) − target‖₂ over the unscaled mean latent."""

    def objective(adversarial: Images):
        return (vae.mean(adversarial) - target).flatten(1).norm(dim=1)

    return objective


def photoguard_encoder(
    x: Images,
    *,
    vae: VAE,
    eps: float,
    steps: int,
    step_size: float,
    generators: Generators | None = None,
    mask: Mask | None = None,
    target: Float[Tensor, "#b 3 h w"] | None = None,
) -> Images:
    """Attacked images with the latent of `target` (`b 3 h w` or `1 3 h w`), or the zero latent.

    Zero is what the paper's code takes for image-to-image. The step falls linearly to a hundredth, as in the notebooks.
    """
    with torch.no_grad():
        goal = 0.0 if target is None else vae.mean(target)
    return pgd(
        x,
        photoguard_encoder_objective(vae, goal),
        eps=eps,
        steps=steps,
        step_size=step_size,
        generators=generators,
        mask=mask,
        schedule="linear",
    )
