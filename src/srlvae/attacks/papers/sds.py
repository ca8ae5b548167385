"""SDS+ and SDS−: score distillation's gradient, without a pass back through the UNet.

Xue et al. 2024 (Diff-Protect, arXiv 2311.12832), section 4: the gradient on the image is J_Eᵀ (U(z_t, t, c) − noise); SDS+
follows it up, SDS− down, which smooths the image for the model instead of breaking it.
"""

from __future__ import annotations

from functools import partial

from srlvae.attacks.engine.ball import Ball
from srlvae.attacks.engine.pgd import Loop, Objective, pgd
from srlvae.attacks.papers.advdm import draw_timesteps
from srlvae.images import Images
from srlvae.models.noise import noise_error
from srlvae.models.pipeline import Pipeline
from srlvae.rng import Generators, normal_like


def sds_objective(
    pipeline: Pipeline, prompt: str, generators: Generators, sign: int, size: tuple[int, int] | None = None
) -> Objective:
    """x′ ↦ −sign · ‖U(z_t, t, c) − noise‖², a mean, whose gradient on z is made to be −sign · (U(z_t, t, c) − noise).

    New t, noise and sample z of the scaled posterior at every call. size: what SDXL is told.
    """
    conditioning = pipeline.condition([prompt] * len(generators), size)

    def objective(adversarial: Images):
        vae = pipeline.vae
        scaled = vae.to_scaled(vae.sample(adversarial, generators))
        t, noise = draw_timesteps(pipeline, generators), normal_like(scaled, generators)
        error = noise_error(pipeline, scaled.detach(), conditioning, t, noise)
        along = (scaled * error).sum((1, 2, 3))
        return -sign * (error.square().mean((1, 2, 3)) + along - along.detach())

    return objective


def sds(
    x: Images,
    *,
    pipeline: Pipeline,
    ball: Ball,
    generators: Generators,
    sign: int,
    prompt: str = "a painting",
    loop: Loop | None = None,
) -> Images:
    """Attacked images along score distillation's gradient: up with `sign` 1, down with −1."""
    objective = sds_objective(pipeline, prompt, generators, sign, (x.shape[-2], x.shape[-1]))
    return pgd(x, objective, ball, generators=generators, loop=loop, keep_best=False)


sds_up, sds_down = partial(sds, sign=1), partial(sds, sign=-1)
