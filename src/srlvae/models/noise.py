"""The noise that a UNet was trained on, and what it makes of noisy latents: the losses of fine-tuning and of attacks."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from srlvae.errors import InputError
from srlvae.models.lazy import library
from srlvae.models.pipeline import Conditioning, Pipeline
from srlvae.models.vae import Latents
from srlvae.rng import Generators, normal_like


def denoising_loss(
    pipeline: Pipeline, scaled: Latents, conditioning: Conditioning, t: Int[Tensor, " b"], noise: Latents
) -> Float[Tensor, " b"]:
    """‖UNet(√ᾱₜ z + √(1−ᾱₜ) n, t, c) − target‖², a mean over the latent: the loss that the UNet was trained on.

    The target is the noise or v, as the scheduler's `prediction_type` says. Raises InputError for any other.
    """
    scheduler, kind = _training_scheduler(pipeline)
    noisy = scheduler.add_noise(scaled, noise, t)
    target = noise if kind == "epsilon" else scheduler.get_velocity(scaled, noise, t)
    return (pipeline.predict(noisy, t, conditioning) - target).square().mean((1, 2, 3))


@torch.no_grad()
def noise_error(
    pipeline: Pipeline, scaled: Latents, conditioning: Conditioning, t: Int[Tensor, " b"], noise: Latents
) -> Latents:
    """The noise that the UNet predicts minus the noise that was added, without a gradient.

    This is the direction in which score distillation moves latents.
    """
    scheduler, kind = _training_scheduler(pipeline)
    noisy = scheduler.add_noise(scaled, noise, t)
    found = pipeline.predict(noisy, t, conditioning)
    if kind == "v_prediction":
        share = scheduler.alphas_cumprod.to(scaled)[t].view(-1, 1, 1, 1)
        found = share.sqrt() * found + (1 - share).sqrt() * noisy
    return found - noise


def noisy_latents(pipeline: Pipeline, scaled: Latents, t: Int[Tensor, " b"], generators: Generators) -> Latents:
    """Scaled latents with the noise of training at time `t`, drawn from the generators: √ᾱₜ z + √(1−ᾱₜ) n."""
    return _training_scheduler(pipeline)[0].add_noise(scaled, normal_like(scaled, generators), t)


def signal_share(pipeline: Pipeline, t: int) -> float:
    """ᾱₜ: the share of a latent's energy that is left of it at time `t` of training's noise.

    Raises InputError for a time that training has not.
    """
    shares = _training_scheduler(pipeline)[0].alphas_cumprod
    if t >= len(shares):
        raise InputError(f"t is {t}; the model was trained with the times 0 to {len(shares) - 1}")
    return float(shares[t])


def noise_schedule(pipeline: Pipeline) -> Any:
    """The settings of the noise that the UNet was trained on, for a scheduler of another class.

    Raises InputError for a pipeline like Playground v2.5 whose noise has no betas, as the formulas here are others there.
    """
    scheduler = pipeline.pipe.scheduler
    if "beta_schedule" not in scheduler.config:
        raise InputError(f"{type(scheduler).__name__} has no betas; attacks and fine-tuning need a model trained with them")
    return scheduler.config


def _training_scheduler(pipeline: Pipeline) -> tuple[Any, str]:
    scheduler = library.DDPMScheduler.from_config(noise_schedule(pipeline))
    kind = scheduler.config.prediction_type
    if kind not in ("epsilon", "v_prediction"):
        raise InputError(f"prediction type {kind!r} is not supported; epsilon and v_prediction are")
    return scheduler, kind
