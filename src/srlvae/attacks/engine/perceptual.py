"""A perceptual budget, P(x+δ, x) ≤ p: as a penalty while an attack runs, and as a bound on its result."""

from __future__ import annotations

import torch

from srlvae.attacks.engine.pgd import Objective
from srlvae.images import Images
from srlvae.metrics.features import Features
from srlvae.metrics.pairwise import PerImage, feature_distance


def perceptual_penalty(x: Images, features: Features, budget: float) -> Objective:
    """x′ ↦ max(P(x′, x) − budget, 0); P is LPIPS on the features `lpips-*`."""
    with torch.no_grad():
        clean = features.columns(x)

    def penalty(adversarial: Images) -> PerImage:
        return (feature_distance(features.columns(adversarial), clean) - budget).clamp_min(0)

    return penalty


@torch.no_grad()
def within_budget(adversarial: Images, x: Images, features: Features, budget: float, halvings: int = 12) -> Images:
    """x + s·δ with the largest s in [0,1], found by bisection, that keeps P(x + s·δ, x) ≤ budget, image by image."""
    penalty, delta = perceptual_penalty(x, features, budget), adversarial - x
    low, high = torch.zeros(len(x), device=x.device), torch.ones(len(x), device=x.device)
    scale = high
    for _ in range(halvings):
        keeps = penalty((x + scale[:, None, None, None] * delta).clamp(0, 1)) == 0
        low, high = torch.where(keeps, scale, low), torch.where(keeps, high, scale)
        scale = (low + high) / 2
    return (x + low[:, None, None, None] * delta).clamp(0, 1)
