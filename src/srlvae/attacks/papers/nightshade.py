"""Nightshade: a picture of one concept, captioned as such, with the latent of a generated picture of another.

Shan et al. 2023 (arXiv 2310.13828), section 5.2: min over δ of ‖E(x+δ) − E(anchor)‖₂ within a budget; the anchor is generated
from the target's name, since such pictures agree with each other better than photographs do.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from srlvae.attacks.engine.ball import Ball
from srlvae.attacks.engine.perceptual import perceptual_pgd
from srlvae.attacks.engine.pgd import Loop
from srlvae.attacks.papers.photoguard import photoguard_encoder_objective
from srlvae.images import Images
from srlvae.metrics.clip import Clip
from srlvae.metrics.features import Features
from srlvae.models.pipeline import Pipeline
from srlvae.rng import Generators


@torch.no_grad()
def likeness(clip: Clip, batches: Iterable[Tensor], concept: str) -> Float[Tensor, " n"]:
    """How much CLIP finds each image of all batches `b 3 h w` like "a photo of a `concept`": the cosine.

    The paper's first step takes the most alike, as poisons that pass for the concept.
    """
    text = clip.texts([f"a photo of a {concept}"])[0]
    return torch.cat([clip.images(part) @ text for part in batches])


def generate_anchor(pipeline: Pipeline, prompt: str, generators: Generators, size: tuple[int, int]) -> Images:
    """One generated picture of `prompt` an image, resized to `size`."""
    anchor = pipeline.generate([prompt] * len(generators), generators)
    return anchor if anchor.shape[-2:] == size else F.interpolate(anchor, size, mode="bicubic", antialias=True).clamp(0, 1)


def nightshade(
    x: Images,
    *,
    pipeline: Pipeline,
    ball: Ball,
    generators: Generators,
    prompt: str = "a photo of a butterfly",
    target: Float[Tensor, "#b 3 h w"] | None = None,
    features: Features | None = None,
    loop: Loop | None = None,
) -> Images:
    """Attacked images with the latents of `target`, by default of pictures generated from `prompt`. Starts at the image.

    features: the network of a perceptual budget, where the ball has one; see `perceptual_pgd`.
    """
    if target is None:
        target = generate_anchor(pipeline, prompt, generators, (x.shape[-2], x.shape[-1])).to(x)
    with torch.no_grad():
        distance = photoguard_encoder_objective(pipeline.vae, pipeline.vae.mean(target))
    return perceptual_pgd(x, distance, ball, features=features, loop=loop)
