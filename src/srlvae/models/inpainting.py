"""Differentiable inpainting, by UNets that were made for it and by any other."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from srlvae.images import Images
from srlvae.models.denoising import guidance_batch, guided_step, timesteps
from srlvae.models.edit_settings import EditSettings
from srlvae.models.pipeline import Conditioning, Kept, Pipeline
from srlvae.models.vae import Latents


def inpaint(
    pipeline: Pipeline,
    x: Images,
    mask: Float[Tensor, "b 1 h w"],
    conditioning: Conditioning,
    noise: Latents,
    settings: EditSettings,
    step_noise: Sequence[Latents] = (),
) -> Images:
    """Repaint `x` where `mask` is 1. Differentiable in `x`, and *not* clamped. All else is as in `image_to_image`.

    At strength 1 the images start from noise alone. A UNet that was made for inpainting sees what is kept beside its latents.
    With any other UNet, what is kept is put back after every step, from the latent of all of `x`, as in diffusers' inpainting
    pipeline.
    """
    vae = pipeline.vae
    scheduler, times = timesteps(pipeline, settings.steps, settings.strength)
    scaled = vae.to_scaled(vae.mean(x))
    z = noise if settings.strength == 1 else scheduler.add_noise(scaled, noise, times[:1])
    kept = inpainting_input(pipeline, x, mask) if pipeline.inpaints else None
    step = guided_step(pipeline, scheduler, guidance_batch(pipeline, conditioning, x), settings.guidance, kept)
    repainted = F.interpolate(mask, scaled.shape[-2:])
    for i, t in enumerate(times):
        z = checkpoint(step, z, t, step_noise[i] if step_noise else None, use_reentrant=False)
        if not pipeline.inpaints:
            known = scheduler.add_noise(scaled, noise, times[i + 1 : i + 2]) if i + 1 < len(times) else scaled
            z = repainted * z + (1 - repainted) * known
    return vae.decode(vae.from_scaled(z))


def inpainting_input(pipeline: Pipeline, x: Images, mask: Float[Tensor, "b 1 h w"]) -> Kept:
    """What a UNet for inpainting sees beside its latents: the mask, and the latents of `x` with mid-grey under the mask."""
    kept = pipeline.vae.to_scaled(pipeline.vae.mean(x * (1 - mask) + 0.5 * mask))
    return torch.cat([F.interpolate(mask, kept.shape[-2:]), kept], dim=1)
