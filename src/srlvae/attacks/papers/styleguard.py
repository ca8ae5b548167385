"""StyleGuard: raise the loss of a surrogate that learns, and move the statistics that stand for a picture's style.

Li et al. 2025 (arXiv 2505.18766), on Anti-DreamBooth's rounds. The style of a picture is the mean m and the variance v of each
channel of its scaled latent. In the authors' code they are those of a whole batch; here each image has its own. The authors
average over Stable Diffusion and an upscaler; here there is the one pipeline.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from srlvae.attacks.engine.ball import Ball
from srlvae.attacks.engine.pgd import Loop, Objective, pgd
from srlvae.attacks.engine.surrogate import Surrogate, Tuning, for_each_image
from srlvae.attacks.papers.advdm import random_denoising_loss
from srlvae.attacks.papers.antidreambooth import alternating
from srlvae.attacks.papers.mist import texture
from srlvae.images import Images
from srlvae.models.pipeline import Pipeline
from srlvae.models.vae import Latents
from srlvae.rng import Generators

# Of the style, in the authors' scripts.
WEIGHT = 1.0


def style_of(scaled: Latents) -> Float[Tensor, "b two_c"]:
    """The mean and the variance of each channel of each scaled latent, side by side."""
    places = scaled.flatten(2)
    # One place does not vary.
    return torch.cat([places.mean(2), places.var(2, correction=min(1, places.shape[2] - 1))], dim=1)


def styleguard_objective(
    pipeline: Pipeline, x: Images, target: Images, prompt: str, generators: Generators, weight: float
) -> Objective:
    """x′ ↦ −L_LDM(x′) − w·[MSE(m, m₀) + MSE(v, v₀)] + w·[MSE(m, m_T) + MSE(v, v_T)].

    m₀ and v₀ are those of `x`, m_T and v_T those of `target`. L_LDM has new t, noise and sample of the latent at every call.
    """
    vae, conditioning = pipeline.vae, pipeline.condition([prompt] * len(x), (x.shape[-2], x.shape[-1]))
    with torch.no_grad():
        own, other = (style_of(vae.to_scaled(vae.mean(images))) for images in (x, target))

    def distance(style: Tensor, to: Tensor) -> Tensor:
        """The sum of two mean squared errors, one over means and one over variances."""
        return 2 * (style - to).square().mean(1)

    def objective(adversarial: Images):
        scaled = vae.to_scaled(vae.sample(adversarial, generators))
        style = style_of(scaled)
        learnt = random_denoising_loss(pipeline, scaled, conditioning, generators)
        return -learnt - weight * (distance(style, own) - distance(style, other))

    return objective


def styleguard(
    x: Images,
    *,
    pipeline: Pipeline,
    ball: Ball,
    generators: Generators,
    prompt: str = "a painting of sks style",
    target: Float[Tensor, "#b 3 h w"] | None = None,
    tuning: Tuning | None = None,
    loop: Loop | None = None,
) -> Images:
    """Attacked images whose style is taken for that of `target`, by default Mist's texture, and is not learnt.

    Two copies of the UNet are held for each image.
    """
    tuning, loop = tuning or Tuning(), loop or Loop()
    target = (texture(x.shape[-2], x.shape[-1]).to(x) if target is None else target).expand_as(x)

    def surrogate(i: int) -> Objective:
        one, own = slice(i, i + 1), generators[i : i + 1]
        renew = alternating(pipeline, x[one], prompt, own, tuning)

        def on(attacked: Pipeline) -> Objective:
            return styleguard_objective(attacked, x[one], target[one], prompt, own, WEIGHT)

        return Surrogate(renew, on, tuning.every * loop.repeats)

    objective = for_each_image(surrogate, generators)
    return pgd(x, objective, ball, generators=generators, loop=loop, keep_best=False)
