"""Glaze: give a picture the latent of itself in another style, within a perceptual budget.

Shan et al. 2023 (arXiv 2302.04222), eq. 2: min over δ of ‖E(x+δ) − E(Ω(x, T))‖² + α · max(LPIPS(δ) − p, 0), Ω the style
transfer. The tool is closed; settings are those of an open re-implementation.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from srlvae.attacks.engine.ball import Ball
from srlvae.attacks.engine.perceptual import perceptual_pgd
from srlvae.attacks.engine.pgd import Loop, Objective
from srlvae.images import Images
from srlvae.metrics.features import Features
from srlvae.models.pipeline import Pipeline
from srlvae.models.vae import VAE, Latents
from srlvae.rng import Generators

# Of the edit towards another style, as in the open re-implementation.
STRENGTH = 0.4


def glaze_objective(vae: VAE, target: Latents) -> Objective:
    """x′ ↦ ‖E(x′) − target‖², a sum over the latent; the penalty is that of the ball's perceptual budget."""
    return lambda adversarial: (vae.mean(adversarial) - target).square().sum((1, 2, 3))


def glaze(
    x: Images,
    *,
    pipeline: Pipeline,
    ball: Ball,
    generators: Generators,
    prompt: str = "a painting by van gogh",
    target: Float[Tensor, "#b 3 h w"] | None = None,
    features: Features | None = None,
    loop: Loop | None = None,
) -> Images:
    """Attacked images with the latents of `target`, by default of x edited towards the style of `prompt`. Starts at the image.

    features: the network of the perceptual budget, where the ball has one; see `perceptual_pgd`.
    """
    if target is None:
        target = pipeline.edit(x, [prompt] * len(x), generators, strength=STRENGTH).to(x)
    with torch.no_grad():
        goal = pipeline.vae.mean(target)
    return perceptual_pgd(x, glaze_objective(pipeline.vae, goal), ball, features=features, loop=loop)
