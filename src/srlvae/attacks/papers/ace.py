"""ACE and ACE+: make a UNet that learns the picture predict one and the same pattern, whatever the noise.

Zheng et al. 2023 (arXiv 2310.04687; in its last version "Targeted Attack Improves Protection against Unauthorized Diffusion
Customization"). ACE minimises MSE(U(z_t, t, c), z_T) over the image, z_T the scaled latent of a target picture; ACE+ adds
100 · MSE(z, z_T). U is what the network predicts, noise or v. LoRA on the UNet is tuned on the attacked image between rounds.
A code of the same family, Mist's version 2, has a mode `fused` that pushes z away from z_T; here it is pulled, as the paper
says.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

from jaxtyping import Float
from torch import Tensor

from srlvae.attacks.engine.ball import Ball
from srlvae.attacks.engine.pgd import Loop, Objective, pgd
from srlvae.attacks.engine.surrogate import Surrogate, Tuning, copied, for_each_image, tune
from srlvae.attacks.papers.advdm import denoising_objective, draw_timesteps
from srlvae.attacks.papers.mist import target_latent
from srlvae.images import Images
from srlvae.models.noise import noisy_latents
from srlvae.models.pipeline import Pipeline
from srlvae.models.vae import Latents
from srlvae.rng import Generators

PLUS_WEIGHT = 100.0


@dataclass(frozen=True)
class Settings:
    """The weight of the second term, 0 for ACE, and how LoRA is tuned between rounds of 50 steps."""

    weight: float = 0.0
    tuning: Tuning = field(default_factory=lambda: Tuning(steps=5, every=50, rate=1e-4, rank=4))


def ace_objective(
    pipeline: Pipeline, prompt: str, target: Latents, generators: Generators, weight: float, size: tuple[int, int] | None = None
) -> Objective:
    """x′ ↦ MSE(U(z_t, t, c), target) + weight · MSE(z, target), with new t, noise and sample z at every call.

    target: a scaled latent. size: what SDXL is told.
    """
    vae, conditioning = pipeline.vae, pipeline.condition([prompt] * len(generators), size)

    def objective(adversarial: Images):
        scaled = vae.to_scaled(vae.sample(adversarial, generators))
        t = draw_timesteps(pipeline, generators)
        predicted = pipeline.predict(noisy_latents(pipeline, scaled, t, generators), t, conditioning)
        value = (predicted - target).square().mean((1, 2, 3))
        return value + weight * (scaled - target).square().mean((1, 2, 3)) if weight else value

    return objective


def ace(
    x: Images,
    *,
    pipeline: Pipeline,
    ball: Ball,
    generators: Generators,
    prompt: str = "a picture",
    target: Float[Tensor, "#b 3 h w"] | None = None,
    settings: Settings | None = None,
    loop: Loop | None = None,
) -> Images:
    """Attacked images of which a UNet learns `target`, by default Mist's texture. A copy of the UNet is held for each image.

    Raises ModuleNotFoundError if the extra `finetune` is not installed.
    """
    settings, loop, size = settings or Settings(), loop or Loop(), (x.shape[-2], x.shape[-1])
    tuning = settings.tuning
    goal = target_latent(x, pipeline.vae, target, generators)

    def surrogate(i: int) -> Objective:
        own, pupil = generators[i : i + 1], copied(pipeline, tuning.rank)
        raised = denoising_objective(pupil, prompt, own, size)

        def renew(adversarial: Images) -> Pipeline:
            tune(pupil, lambda: -raised(adversarial), tuning)
            return pupil

        def on(attacked: Pipeline) -> Objective:
            return ace_objective(attacked, prompt, goal[i : i + 1], own, settings.weight, size)

        return Surrogate(renew, on, tuning.every * loop.repeats)

    objective = for_each_image(surrogate, generators)
    return pgd(x, objective, ball, generators=generators, loop=loop, keep_best=False)


ace_plus = partial(ace, settings=Settings(PLUS_WEIGHT))
