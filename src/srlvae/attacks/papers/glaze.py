"""Glaze: give a picture the latent of itself in another style, within a perceptual budget.

Shan et al. 2023 (arXiv 2302.04222), eq. 2: min over δ of ‖E(x+δ) − E(Ω(x, T))‖² + α · max(LPIPS(δ) − p, 0), Ω the style
transfer. The tool is closed; settings are those of an open re-implementation.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from typing_extensions import Unpack

from srlvae.attacks.engine.perceptual import perceptual_penalty, within_budget
from srlvae.attacks.engine.pgd import Adam, Loop, Objective, pgd
from srlvae.images import Images
from srlvae.metrics.features import Features, load_features
from srlvae.models.pipeline import Pipeline
from srlvae.models.vae import VAE, Latents
from srlvae.rng import Generators


def glaze_objective(vae: VAE, target: Latents, penalty: Objective, weight: float) -> Objective:
    """x′ ↦ ‖E(x′) − target‖² + weight · penalty(x′), the first a sum over the latent."""

    def objective(adversarial: Images):
        return (vae.mean(adversarial) - target).square().sum((1, 2, 3)) + weight * penalty(adversarial)

    return objective


def glaze(
    x: Images,
    *,
    pipeline: Pipeline,
    eps: float,
    steps: int,
    step_size: float,
    generators: Generators,
    prompt: str = "a painting by van gogh",
    target: Float[Tensor, "#b 3 h w"] | None = None,
    features: Features | None = None,
    budget: float = 0.05,
    weight: float = 30.0,
    strength: float = 0.4,
    hard: bool = False,
    **loop: Unpack[Loop],
) -> Images:
    """Attacked images with the latents of `target`, by default of x edited towards the style of `prompt` at `strength`.

    eps: an ℓ∞ cap that the original has not; 1 is none. features: for P, by default EfficientNet-Lite0, where the original has
    LPIPS. hard: scale the result until P ≤ budget.
    """
    features = load_features("efficientnet-lite0").to(x.device) if features is None else features
    if target is None:
        target = pipeline.edit(x, [prompt] * len(x), generators, strength=strength).to(x)
    with torch.no_grad():
        goal = pipeline.vae.mean(target)
    objective = glaze_objective(pipeline.vae, goal, perceptual_penalty(x, features, budget), weight)
    adversarial = pgd(x, objective, eps=eps, steps=steps, step_size=step_size, rule=Adam, **loop)
    return within_budget(adversarial, x, features, budget) if hard else adversarial
