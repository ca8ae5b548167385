"""AdvDM: raise the loss that the UNet was trained on, so that the image is out of its world.

Liang et al. 2023 (arXiv 2302.04578), eq. 5: max over δ of the mean over t and noise of ‖U(z_t, t, c) − noise‖², estimated with
one draw a step.
"""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

from srlvae.attacks.engine.ball import Ball
from srlvae.attacks.engine.pgd import Loop, Objective, pgd
from srlvae.images import Images
from srlvae.models.noise import denoising_loss
from srlvae.models.pipeline import Conditioning, Pipeline
from srlvae.models.vae import Latents
from srlvae.rng import Generators, normal_like


def draw_timesteps(pipeline: Pipeline, generators: Generators) -> Int[Tensor, " b"]:
    """A step of the schedule for each image, all equally likely."""
    total = pipeline.pipe.scheduler.config.num_train_timesteps
    draws = [torch.randint(total, (), generator=g, device=g.device) for g in generators]
    return torch.stack(draws).to(pipeline.device)


def denoising_objective(
    pipeline: Pipeline, prompt: str, generators: Generators, size: tuple[int, int] | None = None
) -> Objective:
    """x′ ↦ −‖U(z_t, t, c) − target‖², a mean over the latent, with new t, noise and sample z at every call.

    size: height and width of the images, which SDXL is told.
    """
    conditioning = pipeline.condition([prompt] * len(generators), size)

    def objective(adversarial: Images):
        vae = pipeline.vae
        return -random_denoising_loss(pipeline, vae.to_scaled(vae.sample(adversarial, generators)), conditioning, generators)

    return objective


def random_denoising_loss(pipeline: Pipeline, scaled: Latents, conditioning: Conditioning, generators: Generators) -> Tensor:
    """The denoising loss of each scaled latent at a time and with noise from its generator."""
    t, noise = draw_timesteps(pipeline, generators), normal_like(scaled, generators)
    return denoising_loss(pipeline, scaled, conditioning, t, noise)


def advdm(
    x: Images,
    *,
    pipeline: Pipeline,
    ball: Ball,
    generators: Generators,
    prompt: str = "a painting",
    loop: Loop | None = None,
) -> Images:
    """Attacked images with a high denoising loss under `prompt`."""
    objective = denoising_objective(pipeline, prompt, generators, (x.shape[-2], x.shape[-1]))
    return pgd(x, objective, ball, generators=generators, loop=loop, keep_best=False)
