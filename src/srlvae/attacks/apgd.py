"""APGD: projected gradient descent that finds its own step, image by image.

Croce and Hein 2020 (AutoAttack, arXiv 2003.01690), algorithm 1: momentum, and at a few checkpoints the step is halved and the
search goes on from the best iterate where progress has stalled.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from srlvae.attacks.pgd import Images, Mask, Objective, View, Watch, better, project, slope, steepest
from srlvae.rng import Generators, uniform_like

# Images → the objective and its gradient.
Look = Callable[[Images], tuple[Tensor, Images]]
MOMENTUM, ENOUGH = 0.75, 0.75


def checkpoints(steps: int) -> set[int]:
    """Numbers of steps after which progress is looked at: 22 % of all, then ever closer, at least 6 % apart."""
    marks, before, now = set(), 0.0, 0.22
    while now < 1:
        marks.add(max(1, round(now * steps)))
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

    Costs restarts · (steps + 1) forward and steps backward passes.
    """
    x = x.contiguous(memory_format=torch.channels_last)
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
    delta = before = best = project(eps * uniform_like(x, generators) * mask, x, eps, "linf")
    value, gradient = look(x + delta)
    best_value, gains, since = value, torch.zeros(len(x), device=x.device), 0
    settled = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    best_at_mark = value
    for step in range(1, steps + 1):
        if watch:
            watch(value, gradient)
        plain = project(delta - size * steepest(gradient, "linf") * mask, x, eps, "linf")
        share = MOMENTUM if step > 1 else 1.0
        moved = project(delta + share * (plain - delta) + (1 - share) * (delta - before), x, eps, "linf")
        before, delta, last = delta, moved, value
        value, gradient = look(x + delta)
        gains, since = gains + (value < last), since + 1
        best, best_value = better(delta, value, best, best_value)
        if step in marks:
            stalled = (gains < ENOUGH * since) | (settled & (best_value >= best_at_mark))
            size = torch.where(stalled[:, None, None, None], size / 2, size)
            delta = torch.where(stalled[:, None, None, None], best, delta)
            if stalled.any() and step < steps:
                value, gradient = look(x + delta)
            settled, best_at_mark, gains, since = ~stalled, best_value, torch.zeros_like(gains), 0
    return best, best_value
