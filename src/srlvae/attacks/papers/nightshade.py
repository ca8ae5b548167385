"""Nightshade: a picture of one concept, captioned as such, with the latent of a generated picture of another.

Shan et al. 2023 (arXiv 2310.13828), section 5.2: min over δ of ‖E(x+δ) − E(anchor)‖₂ within a budget; the anchor is generated
from the target's name, since such pictures agree with each other better than photographs do.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F
from typing_extensions import Unpack

from srlvae.attacks.engine.perceptual import perceptual_penalty
from srlvae.attacks.engine.pgd import Adam, Loop, pgd
from srlvae.attacks.papers.photoguard import photoguard_encoder_objective
from srlvae.images import Images
from srlvae.metrics.clip import Clip
from srlvae.metrics.features import Features, load_features
from srlvae.models.pipeline import Pipeline
from srlvae.rng import Generators


@torch.no_grad()
def select_sources(clip: Clip, images: Images, concept: str, count: int, batch: int = 64) -> list[int]:
    """The numbers of the `count` images that CLIP finds most like "a photo of a `concept`", best first.

    Poisons that pass for the concept: the first step of the paper. Raises ValueError where there are fewer images.
    """
    if count > len(images):
        raise ValueError(f"{count} sources wanted of {len(images)} images")
    text = clip.texts([f"a photo of a {concept}"])[0]
    likeness = torch.cat([clip.images(part) @ text for part in images.split(batch)])
    return likeness.argsort(descending=True)[:count].tolist()


def generate_anchor(pipeline: Pipeline, prompt: str, generators: Generators, size: tuple[int, int]) -> Images:
    """One generated picture of `prompt` an image, resized to `size`."""
    anchor = pipeline.generate([prompt] * len(generators), generators)
    return anchor if anchor.shape[-2:] == size else F.interpolate(anchor, size, mode="bicubic", antialias=True).clamp(0, 1)


def nightshade(
    x: Images,
    *,
    pipeline: Pipeline,
    eps: float,
    steps: int,
    step_size: float,
    generators: Generators,
    prompt: str = "a photo of a butterfly",
    target: Float[Tensor, "#b 3 h w"] | None = None,
    budget: float | None = None,
    weight: float = 30.0,
    features: Features | None = None,
    **loop: Unpack[Loop],
) -> Images:
    """Attacked images with the latents of `target`, by default of pictures generated from `prompt`. Starts at the image.

    budget: a perceptual one, kept by a penalty of `weight` under Adam, in place of steps that fall from ε to ε/100.
    features: for that budget, EfficientNet-Lite0 by default, where the paper has LPIPS.
    """
    if target is None:
        target = generate_anchor(pipeline, prompt, generators, (x.shape[-2], x.shape[-1])).to(x)
    with torch.no_grad():
        distance = photoguard_encoder_objective(pipeline.vae, pipeline.vae.mean(target))
    if budget is None:
        return pgd(x, distance, eps=eps, steps=steps, step_size=step_size, schedule="linear", **loop)
    features = load_features("efficientnet-lite0").to(x.device) if features is None else features
    penalty = perceptual_penalty(x, features, budget)
    settings = {"eps": eps, "steps": steps, "step_size": step_size, "rule": Adam}
    return pgd(x, lambda adversarial: distance(adversarial) + weight * penalty(adversarial), **settings, **loop)
