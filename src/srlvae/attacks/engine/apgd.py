"""APGD: projected gradient descent that finds its own step, image by image.

Croce and Hein 2020 (AutoAttack, arXiv 2003.01690), algorithm 1: momentum, and at a few checkpoints the step is halved and the
search goes on from the best iterate where progress has stalled.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from srlvae.attacks.engine.ball import Ball
from srlvae.attacks.engine.pgd import Loop, Objective, better, project, random_start, steepest
from srlvae.errors import InputError
from srlvae.images import Images, check_images
from srlvae.rng import Generators

MOMENTUM, ENOUGH = 0.75, 0.75


def checkpoints(steps: int) -> set[int]:
    """Numbers of steps after which progress is looked at: 22 % of all, then ever closer, at least 6 % apart."""
    marks, before, now = set(), 0.0, 0.22
    while now < 1:
        marks.add(math.ceil(now * steps - 1e-9))
        before, now = now, now + max(now - before - 0.03, 0.06)
    return marks


def apgd(x: Images, objective: Objective, ball: Ball, *, generators: Generators, loop: Loop | None = None) -> Images:
    """Images in the ℓ∞ ball around `x` that make `objective` small; the best of several random starts.

    The step is found image by image: `ball.step_size` is not looked at. The best iterate is kept by its value even behind a
    view, where that is an estimate. Costs restarts · (steps + 1) · repeats forward and backward passes.
    Raises InputError for another ball than one of ℓ∞ with a radius.
    """
    if ball.eps is None or ball.norm != "linf":
        raise InputError("APGD needs an ℓ∞ ball with a radius")
    x, loop = check_images(x).contiguous(memory_format=torch.channels_last), loop or Loop()
    best, best_value = torch.zeros_like(x), torch.full((len(x),), torch.inf, device=x.device)
    for _ in range(loop.restarts):
        found, value = _descend(x, objective, ball.eps, ball.steps, random_start(x, ball, generators, loop), loop)
        best, best_value = better(found, value, best, best_value)
    return (x + best).clamp(0, 1).detach()


def _descend(x: Images, objective: Objective, eps: float, steps: int, start: Images, loop: Loop) -> tuple[Images, Tensor]:
    """The best perturbation that is found from one start, and its objective."""
    marks, size = checkpoints(steps), torch.full((len(x), 1, 1, 1), 2 * eps, device=x.device)
    delta = before = start
    best, best_value, best_gradient = delta, torch.full((len(x),), torch.inf, device=x.device), torch.zeros_like(x)
    best_at_mark, gains, since = best_value, torch.zeros(len(x), device=x.device), 0
    settled, last = torch.zeros(len(x), dtype=torch.bool, device=x.device), best_value
    for step in range(steps + 1):
        value, gradient = loop.slope(objective, x + delta)
        wins = value.isfinite() & (value < best_value)
        best_gradient = torch.where(wins[:, None, None, None], gradient, best_gradient)
        best, best_value = better(delta, value, best, best_value)
        gains, since = gains + (value < last) * (step > 0), since + (step > 0)
        if step == steps:
            break
        if loop.watch:
            loop.watch(value, gradient)
        if step in marks:
            stalled = (gains < ENOUGH * since) | (settled & (best_value >= best_at_mark))
            back = stalled[:, None, None, None]
            size = torch.where(back, size / 2, size)
            delta, gradient = torch.where(back, best, delta), torch.where(back, best_gradient, gradient)
            value = torch.where(stalled, best_value, value)
            settled, best_at_mark, gains, since = ~stalled, best_value, torch.zeros_like(gains), 0
        plain = project(delta - size * loop.masked(steepest(gradient, "linf")), x, eps, "linf")
        share = MOMENTUM if step else 1.0
        moved = project(delta + share * (plain - delta) + (1 - share) * (delta - before), x, eps, "linf")
        before, delta, last = delta, moved, value
    return best, best_value
