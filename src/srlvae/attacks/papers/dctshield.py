"""DCT-Shield: pull the latent to zero by moving the coefficients of a JPEG, which JPEG then does not take away.

Bala et al. 2025 (arXiv 2504.17894): min over δ of ‖E(decode(α + δ))‖₂, α the picture's quantised coefficients at quality 95 and
‖δ‖∞ ≤ 1 quantisation step. No code was published. Here chroma has half the sides (4:2:0), and α + δ is not rounded again, as
images are written as PNG.
"""

from __future__ import annotations

import torch

from srlvae.attacks.engine.ball import Ball
from srlvae.attacks.engine.jpeg import rms_of_a_step, to_coefficients, to_images
from srlvae.attacks.engine.pgd import Loop, Objective
from srlvae.attacks.engine.rendered import Parameters, search_rendered
from srlvae.attacks.engine.several import VAEs, summed
from srlvae.attacks.papers.photoguard import photoguard_encoder_objective
from srlvae.images import Images
from srlvae.models.vae import VAE
from srlvae.rng import Generators, uniform_like


def dct_shield(
    x: Images,
    *,
    vae: VAEs,
    ball: Ball,
    generators: Generators,
    quality: int = 95,
    luma_alone: bool = False,
    loop: Loop | None = None,
) -> Images:
    """Attacked images whose latent is near zero, moved in the coefficients of a JPEG of `quality`.

    The bound on coefficients is no pixel ball. `ball.eps` is turned into it by distortion: where all coefficients are at their
    bound, with random signs, the root mean square of the pixels is `ball.eps`. Steps are in the same units. What JPEG itself
    changes counts too, and images are put into `ball` at last, whatever its norm.

    luma_alone: leave the chroma as it is.
    """
    with torch.no_grad():
        luma, chroma = (plane.round() for plane in to_coefficients(x, quality))
    unit, count = rms_of_a_step(quality, luma_alone), luma[0].numel()
    bound = (ball.eps or 0.0) / unit

    def render(moved: Parameters) -> Images:
        own = luma + moved[:, :count].reshape(luma.shape)
        other = chroma if luma_alone else chroma + moved[:, count:].reshape(chroma.shape)
        return to_images(own, other, quality, x.shape[-2], x.shape[-1])

    def move(moved: Parameters, gradient: Parameters, number: int) -> Parameters:
        return (moved - ball.step(number) / unit * gradient.sign()).clamp(-bound, bound)

    def objective(of: VAE) -> Objective:
        return photoguard_encoder_objective(of)

    size = count if luma_alone else count + chroma[0].numel()
    start = bound * uniform_like(x.new_empty(len(x), size), generators)
    return search_rendered(x, summed(objective, vae), start, render=render, move=move, ball=ball, loop=loop or Loop())
