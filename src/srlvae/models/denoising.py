"""Edits with a gradient: DDIM as in diffusers, one checkpointed denoising step after another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from srlvae.images import Images
from srlvae.models.edit_settings import EditSettings, steps_run
from srlvae.models.lazy import library
from srlvae.models.noise import noise_schedule
from srlvae.models.pipeline import Conditioning, Kept, Pipeline
from srlvae.models.vae import Latents


def image_to_image(
    pipeline: Pipeline,
    x: Images,
    conditioning: Conditioning,
    noise: Latents,
    settings: EditSettings,
    step_noise: Sequence[Latents] = (),
) -> Images:
    """Edit `x` by its mean latent, noise, DDIM with guidance, and the decoder. Differentiable in `x`, and *not* clamped.

    As in diffusers' pipelines, the last share `settings.strength` of the steps is run. `step_noise` has one draw
    for each step that is run and makes the sampler stochastic (η = 1); without it η is 0. Each step is checkpointed, so memory
    does not grow with the number of steps.

    Raises InputError if the strength is not above 0 and at most 1, or leaves no step to run.
    """
    scheduler, times = timesteps(pipeline, settings.steps, settings.strength)
    z = scheduler.add_noise(pipeline.vae.to_scaled(pipeline.vae.mean(x)), noise, times[:1])
    step = guided_step(pipeline, scheduler, guidance_batch(pipeline, conditioning, x), settings.guidance)
    for i, t in enumerate(times):
        z = checkpoint(step, z, t, step_noise[i] if step_noise else None, use_reentrant=False)
    return pipeline.vae.decode(pipeline.vae.from_scaled(z))


def timesteps(pipeline: Pipeline, steps: int, strength: float) -> tuple[Any, Tensor]:
    """A DDIM scheduler for `steps`, and the timesteps that an edit of `strength` runs, the noisiest first."""
    scheduler = library.DDIMScheduler.from_config(noise_schedule(pipeline), clip_sample=False)
    scheduler.set_timesteps(steps, device=pipeline.device)
    return scheduler, scheduler.timesteps[steps - steps_run(steps, strength) :]


def guidance_batch(pipeline: Pipeline, conditioning: Conditioning, x: Images) -> Conditioning:
    """The conditionings of classifier-free guidance in one batch: first without the prompts, then with them."""
    empty = pipeline.unconditional(len(x), (x.shape[-2], x.shape[-1]))
    return Conditioning(
        torch.cat([empty.embeds, conditioning.embeds]),
        {key: torch.cat([empty.added[key], value]) for key, value in conditioning.added.items()},
    )


def guided_step(pipeline: Pipeline, scheduler: Any, both: Conditioning, guidance: float, kept: Kept | None = None) -> Any:
    """A function that takes one denoising step with guidance: latents, timestep and noise in, latents out.

    `both` comes from `guidance_batch`. `kept` is what a UNet for inpainting sees, as in `Pipeline.predict`.
    """
    twice = None if kept is None else torch.cat([kept, kept])

    def step(z: Latents, t: Tensor, draw: Latents | None) -> Latents:
        without, with_prompt = pipeline.predict(torch.cat([z, z]), t, both, twice).chunk(2)
        guided = without + guidance * (with_prompt - without)
        random = {} if draw is None else {"eta": 1.0, "variance_noise": draw}
        return scheduler.step(guided, t, z, **random).prev_sample

    return step
