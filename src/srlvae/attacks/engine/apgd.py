"""APGD: projected gradient descent that finds its own step, image by image.

Croce and Hein 2020 (AutoAttack, arXiv 2003.01690), algorithm 1: momentum, and at a few checkpoints the step is halved and the
search goes on from the best iterate where progress has stalled.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from srlvae.attacks.engine.pgd import Mask, Objective, View, Watch, better, project, slope, steepest
from srlvae.images import Images, check_images
from srlvae.rng import Generators, uniform_like

# Images → the objective and its gradient.
Look = Callable[[Images], tuple[Tensor, Images]]
MOMENTUM, ENOUGH = 0.75, 0.75


def checkpoints(steps: int) -> set[int]:
    """Numbers of steps after which progress is looked at: 22 % of all, then ever closer, at least 6 % apart."""
    marks, before, now = set(), 0.0, 0.22
    while now < 1:
        marks.add(math.ceil(now * steps - 1e-9))
        before, now = now, now + max(now - before - 0.03, 0.06)
    return marks


def apgd(
    x: Images,
    objective: Objective,
    *,
    eps: float,
    steps: int,
    generators: Generators,
    mask: Mask | None = None,
    restarts: int = 1,
    repeats: int = 1,
    view: View | None = None,
    watch: Watch | None = None,
) -> Images:
    """Images within `eps` (ℓ∞, [0,1] units) of `x` that make `objective` small; the best of `restarts` random starts.

    mask, repeats, view, watch: as in `pgd`, but the best iterate is kept by its value even where that is an estimate.
    Costs restarts · (steps + 1) forward and backward passes.
    """
    x = check_images(x).contiguous(memory_format=torch.channels_last)
    best, best_value = torch.zeros_like(x), torch.full((len(x),), torch.inf, device=x.device)
    seen = objective if view is None else lambda images: objective(view(images))
    for _ in range(restarts):
        found, value = _descend(
            x, lambda images: slope(seen, images, repeats), eps, steps, generators, 1.0 if mask is None else mask, watch
        )
        best, best_value = better(found, value, best, best_value)
    return (x + best).clamp(0, 1).detach()


def _descend(
    x: Images, look: Look, eps: float, steps: int, generators: Generators, mask: Tensor | float, watch: Watch | None
) -> tuple[Images, Tensor]:
    """The best perturbation from one random start, and its objective."""
    marks, size = checkpoints(steps), torch.full((len(x), 1, 1, 1), 2 * eps, device=x.device)
    delta = before = project(eps * uniform_like(x, generators) * mask, x, eps, "linf")
    best, best_value, best_gradient = delta, torch.full((len(x),), torch.inf, device=x.device), torch.zeros_like(x)
    best_at_mark, gains, since = best_value, torch.zeros(len(x), device=x.device), 0
    settled, last = torch.zeros(len(x), dtype=torch.bool, device=x.device), best_value
    for step in range(steps + 1):
        value, gradient = look(x + delta)
        wins = value.isfinite() & (value < best_value)
        best_gradient = torch.where(wins[:, None, None, None], gradient, best_gradient)
        best, best_value = better(delta, value, best, best_value)
        gains, since = gains + (value < last) * (step > 0), since + (step > 0)
        if step == steps:
            break
        if watch:
            watch(value, gradient)
        if step in marks:
            stalled = (gains < ENOUGH * since) | (settled & (best_value >= best_at_mark))
            back = stalled[:, None, None, None]
            size = torch.where(back, size / 2, size)
            delta, gradient = torch.where(back, best, delta), torch.where(back, best_gradient, gradient)
            value = torch.where(stalled, best_value, value)
            settled, best_at_mark, gains, since = ~stalled, best_value, torch.zeros_like(gains), 0
        plain = project(delta - size * steepest(gradient, "linf") * mask, x, eps, "linf")
        share = MOMENTUM if step else 1.0
        moved = project(delta + share * (plain - delta) + (1 - share) * (delta - before), x, eps, "linf")
        before, delta, last = delta, moved, value
    return best, best_value
