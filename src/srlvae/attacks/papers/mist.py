"""Mist: pull the latent to a texture, raise the denoising loss, or both at once.

Liang and Wu 2023 (arXiv 2305.12683), section 3; objectives and settings of the released code, version 1. The code's mode 0 is
semantic, 1 textural, 2 fused.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from srlvae.attacks.engine.ball import Ball
from srlvae.attacks.engine.pgd import Loop, Objective, pgd
from srlvae.attacks.engine.several import VAEs, summed
from srlvae.attacks.papers.advdm import advdm, random_denoising_loss
from srlvae.images import Images
from srlvae.models.pipeline import Pipeline
from srlvae.models.vae import VAE, Latents
from srlvae.rng import Generators

FUSED_WEIGHT = 1e4


def texture(height: int, width: int) -> Float[Tensor, "1 3 h w"]:
    """A hard black and white pattern of crossing waves, in place of the picture that Mist's authors ship."""
    rows, columns = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    waves = torch.sin(rows * 0.55 + 2 * torch.sin(columns * 0.16)) * torch.sin(columns * 0.55 + 2 * torch.sin(rows * 0.16))
    return (waves > 0).float().expand(1, 3, height, width)


def mist_textural_objective(vae: VAE, target: Latents, generators: Generators) -> Objective:
    """x′ ↦ Σ(s·E(x′) − target)², E a sample of the posterior and s the VAE's scale; `target` is a scaled latent."""

    def objective(adversarial: Images):
        return (vae.to_scaled(vae.sample(adversarial, generators)) - target).square().sum((1, 2, 3))

    return objective


def target_latent(x: Images, vae: VAE, target: Float[Tensor, "#b 3 h w"] | None, generators: Generators) -> Latents:
    """The target's scaled latent, drawn once."""
    target = texture(x.shape[-2], x.shape[-1]).to(x) if target is None else target
    with torch.no_grad():
        return vae.to_scaled(vae.sample(target.expand_as(x), generators))


def mist_textural(
    x: Images,
    *,
    vae: VAEs,
    ball: Ball,
    generators: Generators,
    target: Float[Tensor, "#b 3 h w"] | None = None,
    loop: Loop | None = None,
) -> Images:
    """Attacked images with the latent of `target` (`b 3 h w` or `1 3 h w`), or of `texture`."""

    def objective(of: VAE) -> Objective:
        return mist_textural_objective(of, target_latent(x, of, target, generators), generators)

    return pgd(x, summed(objective, vae), ball, generators=generators, loop=loop, keep_best=False)


def mist_semantic(
    x: Images,
    *,
    pipeline: Pipeline,
    ball: Ball,
    generators: Generators,
    prompt: str = "a photo",
    loop: Loop | None = None,
) -> Images:
    """AdvDM under another `prompt`, which the authors set to "a photo" or "a painting"."""
    return advdm(x, pipeline=pipeline, ball=ball, generators=generators, prompt=prompt, loop=loop)


def mist_fused_objective(
    pipeline: Pipeline, prompt: str, target: Latents, generators: Generators, size: tuple[int, int] | None = None
) -> Objective:
    """x′ ↦ textural(x′) − 10⁴ · L_LDM(x′), both on one sample of the posterior. size: what SDXL is told."""
    vae, conditioning = pipeline.vae, pipeline.condition([prompt] * len(generators), size)

    def objective(adversarial: Images):
        scaled = vae.to_scaled(vae.sample(adversarial, generators))
        textural = (scaled - target).square().sum((1, 2, 3))
        return textural - FUSED_WEIGHT * random_denoising_loss(pipeline, scaled, conditioning, generators)

    return objective


def mist_fused(
    x: Images,
    *,
    pipeline: Pipeline,
    ball: Ball,
    generators: Generators,
    prompt: str = "a photo",
    target: Float[Tensor, "#b 3 h w"] | None = None,
    loop: Loop | None = None,
) -> Images:
    """Attacked images of both aims at once; see `mist_fused_objective`."""
    goal = target_latent(x, pipeline.vae, target, generators)
    objective = mist_fused_objective(pipeline, prompt, goal, generators, (x.shape[-2], x.shape[-1]))
    return pgd(x, objective, ball, generators=generators, loop=loop, keep_best=False)
