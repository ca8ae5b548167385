"""The search within a perceptual budget, P(x+δ, x) ≤ p: a penalty while it runs, and a bound on its result."""

from __future__ import annotations

from dataclasses import replace

import torch

from srlvae.attacks.engine.ball import Ball
from srlvae.attacks.engine.pgd import Adam, Loop, Objective, pgd
from srlvae.images import Images
from srlvae.metrics.features import Features, load_features
from srlvae.metrics.pairwise import PerImage, feature_distance

# In place of the LPIPS of the papers, whose weights do not come with the package. Its scale is another, so that the same number
# is another budget.
NETWORK = "efficientnet-lite0"


def perceptual_pgd(
    x: Images, objective: Objective, ball: Ball, *, features: Features | None = None, loop: Loop | None = None
) -> Images:
    """Search from `x` itself: with Adam and a penalty if the ball has a perceptual budget, and else by plain `pgd`.

    `features` is the network of P, by default EfficientNet-Lite0. The papers have LPIPS. The budget is one of the images
    themselves, also where the loop has a view.
    """
    budget, loop = ball.perceptual, loop or Loop()
    if budget is None:
        return pgd(x, objective, ball, loop=loop)
    features = features or load_features(NETWORK).to(x.device)
    beyond, others = perceptual_penalty(x, features, budget.budget), loop.penalty

    def penalty(images: Images) -> PerImage:
        own = budget.weight * beyond(images)
        return own + others(images) if others else own

    found = pgd(x, objective, ball, loop=replace(loop, penalty=penalty), rule=Adam)
    return within_budget(found, x, features, budget.budget) if budget.hard else found


def perceptual_penalty(x: Images, features: Features, budget: float) -> Objective:
    """The objective x′ ↦ max(P(x′, x) − budget, 0). P is LPIPS on the features `lpips-*`."""
    with torch.no_grad():
        clean = features.columns(x)

    def penalty(adversarial: Images) -> PerImage:
        return (feature_distance(features.columns(adversarial), clean) - budget).clamp_min(0)

    return penalty


@torch.no_grad()
def within_budget(adversarial: Images, x: Images, features: Features, budget: float, halvings: int = 12) -> Images:
    """Scale each perturbation δ down to x + s·δ, with the largest s in [0,1] that keeps P(x + s·δ, x) ≤ budget.

    The scale is found by `halvings` bisections, in float32 whatever the search computes in.
    """
    low, high = torch.zeros(len(x), device=x.device), torch.ones(len(x), device=x.device)
    scale, delta = high, adversarial - x
    with torch.autocast(x.device.type, enabled=False):
        penalty = perceptual_penalty(x, features, budget)
        for _ in range(halvings):
            keeps = penalty((x + scale[:, None, None, None] * delta).clamp(0, 1)) == 0
            low, high = torch.where(keeps, scale, low), torch.where(keeps, high, scale)
            scale = (low + high) / 2
    return (x + low[:, None, None, None] * delta).clamp(0, 1)
