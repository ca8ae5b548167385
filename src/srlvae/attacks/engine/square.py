"""Square: random search in an ℓ∞ ball, which asks for values of the objective alone.

Andriushchenko et al. 2020 (arXiv 1912.00049), algorithms 1 and 2. In the authors' code (MIT), squares never touch the last row
and column; here they do.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from srlvae.attacks.engine.ball import Ball
from srlvae.attacks.engine.pgd import Loop, Objective, better
from srlvae.errors import InputError
from srlvae.images import Images, check_images
from srlvae.rng import Generators

# The share of the pixels that the first squares have, and after which of 10,000 queries it is halved.
SHARE, HALVED_AFTER = 0.8, (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)


def side_of_square(query: int, queries: int, height: int, width: int) -> int:
    """The side in pixels of the square of a query, counted from 0, out of `queries`."""
    halvings = sum(int(query / queries * 10_000) > after for after in HALVED_AFTER)
    side = round((SHARE / 2**halvings * height * width) ** 0.5)
    return min(max(side, 1), height, width)


def square(x: Images, objective: Objective, ball: Ball, *, generators: Generators, loop: Loop | None = None) -> Images:
    """Images in the ℓ∞ ball around `x` that make `objective` small, found by `ball.steps` queries an image.

    Each query recolours one square of an image to ±ε in each channel, and is kept if the objective falls. Every image has
    squares of its own. The step size is not looked at. Behind a view, where values vary from draw to draw, the best so far is
    valued anew beside each query.

    Raises InputError for another ball than one of ℓ∞ with a radius.
    """
    if ball.eps is None or ball.norm != "linf":
        raise InputError("Square needs an ℓ∞ ball with a radius")
    x, loop = check_images(x), loop or Loop()
    stripes = [_signs((3, 1, x.shape[-1]), g) for g in generators]
    delta = loop.masked(ball.eps * torch.stack(stripes).to(x).expand_as(x))
    best, best_value = delta, torch.full((len(x),), torch.inf, device=x.device)
    for query in range(ball.steps):
        side = side_of_square(query, ball.steps, x.shape[-2], x.shape[-1])
        tried = best if query == 0 else loop.masked(_recoloured(best, side, ball.eps, generators))
        if loop.view and query:
            best_value = loop.value(objective, (x + best).clamp(0, 1))
        value = loop.value(objective, (x + tried).clamp(0, 1))
        best, best_value = better(tried, value, best, best_value)
        if loop.watch:
            loop.watch(best_value, None)
    return (x + best).clamp(0, 1)


def _recoloured(delta: Images, side: int, eps: float, generators: Generators) -> Images:
    """Each perturbation with one square in other colours."""
    found = delta.clone()
    for row, g in zip(found, generators, strict=True):
        top, left = (int(torch.randint(size - side + 1, (), generator=g, device=g.device)) for size in row.shape[1:])
        place = (slice(None), slice(top, top + side), slice(left, left + side))
        before, colours = row[place].clone(), eps * _signs((3, 1, 1), g).to(row)
        # A colour that is there already would be a query for nothing. At most eight of them are there.
        while eps and bool((before == colours).all()):
            colours = eps * _signs((3, 1, 1), g).to(row)
        row[place] = colours
    return found


def _signs(shape: tuple[int, ...], g: torch.Generator) -> Float[Tensor, ...]:
    """Random signs."""
    return torch.randint(2, shape, generator=g, device=g.device) * 2.0 - 1
