"""The search over other numbers than pixels, such as the coefficients of a JPEG, from which images are rendered."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from srlvae.attacks.engine.ball import Ball
from srlvae.attacks.engine.pgd import Loop, Objective, better, project, slope
from srlvae.images import Images, check_images

# `b ...`: what the search moves, one row an image.
Parameters = Float[Tensor, "b ..."]
Render = Callable[[Parameters], Images]
# Parameters, their gradient and the number of the step, counted from 0 → parameters after the step.
Move = Callable[[Parameters, Parameters, int], Parameters]


def search_rendered(
    x: Images,
    objective: Objective,
    start: Parameters,
    *,
    render: Render,
    move: Move,
    ball: Ball,
    loop: Loop,
    keep_best: bool = True,
) -> Images:
    """Search for parameters whose rendered images make `objective` small, within the ball around each image of `x`.

    Images are put into the ball after they are rendered, so the budget holds whatever the parameters are; outside of the mask
    they are those of `x`. The best iterate is kept, except behind a view, or without `keep_best` for an objective that draws
    anew at every call. It runs `ball.steps` steps.
    """
    x = check_images(x)
    keep_best = keep_best and loop.view is None

    def images(parameters: Parameters) -> Images:
        return x + loop.masked(project(render(parameters) - x, x, ball.eps, ball.norm))

    def seen(parameters: Parameters) -> Float[Tensor, " b"]:
        return loop.whole(objective)(images(parameters))

    parameters = best = start
    best_value = torch.full((len(x),), torch.inf, device=x.device)
    for number in range(ball.steps):
        value, gradient = slope(seen, parameters, loop.repeats)
        if loop.watch:
            # Behind a mask most parameters move nothing, which is no sign of a gradient that fails.
            loop.watch(value, gradient if loop.mask is None else None)
        if keep_best:
            best, best_value = better(parameters, value, best, best_value)
        parameters = move(parameters, gradient, number).detach()
    with torch.no_grad():
        if keep_best:
            best, _ = better(parameters, seen(parameters), best, best_value)
        return images(best if keep_best else parameters).clamp(0, 1)
