"""The norm balls and the one loop: projected gradient descent on an objective `images → one number an image`.

Madry et al. 2018 (arXiv 1706.06083). Every attack of the package is an objective handed to `pgd`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypedDict

import torch
from jaxtyping import Float
from torch import Tensor

from srlvae.images import Images, check_images
from srlvae.rng import Generators, uniform_like

Mask = Float[Tensor, "b 1 h w"]
Objective = Callable[[Images], Float[Tensor, " b"]]
Norm = Literal["linf", "l2"]
Schedule = Literal["constant", "linear"]
# Gradient → direction of a step, of about unit size; may remember what it saw.
Rule = Callable[[Images], Images]
# Images as a defence would pass them on, drawn anew at every call; differentiable.
View = Callable[[Images], Images]
# Told of every step: the objective of each image and its gradient.
Watch = Callable[[Tensor, Images], None]


class Loop(TypedDict, total=False):
    """What every attack hands on to the loop as it is; see `pgd`."""

    mask: Mask | None
    restarts: int
    repeats: int
    view: View | None
    watch: Watch | None


def pgd(
    x: Images,
    objective: Objective,
    *,
    eps: float,
    steps: int,
    step_size: float,
    generators: Generators | None = None,
    norm: Norm = "linf",
    schedule: Schedule = "constant",
    keep_best: bool = True,
    rule: Callable[[], Rule] | None = None,
    mask: Mask | None = None,
    restarts: int = 1,
    repeats: int = 1,
    view: View | None = None,
    watch: Watch | None = None,
) -> Images:
    """Images near `x` that make `objective` small, each on its own.

    eps: radius of the ball around `x`, in [0,1] units (for ℓ2: of the whole image's vector). step_size: in the same units;
    `linear` lets it fall towards a hundredth, as PhotoGuard's and Nightshade's codes do. generators: one an image for a
    uniform random start; None starts at `x`. keep_best: return the best iterate seen, for one more forward pass, and not the
    last; to be turned off where an objective draws anew at every call, so that its values do not compare. rule: makes the
    maker of directions; the steepest of the norm by default. mask: 1 where pixels may change. restarts: random starts, of
    which the best is kept image by image (with keep_best). repeats: evaluations a step whose gradients are averaged. view:
    what the objective sees of the images, a random one for the expectation over transformations (Athalye et al. 2018, arXiv
    1707.07397); the last iterate is returned then. watch: told of every step.
    Costs restarts · steps · repeats forward and backward passes; gradients of parameters are neither computed nor touched.
    """
    # The layout in which CPUs and tensor cores convolve.
    x = check_images(x).contiguous(memory_format=torch.channels_last)
    mask_ = 1.0 if mask is None else mask
    keep_best = keep_best and view is None
    seen = objective if view is None else lambda images: objective(view(images))
    best, best_value = torch.zeros_like(x), torch.full((len(x),), torch.inf, device=x.device)
    delta = best
    for _ in range(restarts):
        delta = torch.zeros_like(x) if generators is None else eps * uniform_like(x, generators)
        delta = project(delta * mask_, x, eps, norm)
        direction = rule() if rule else lambda gradient: steepest(gradient, norm)
        for step in range(steps):
            value, gradient = slope(seen, x + delta, repeats)
            if watch:
                watch(value, gradient)
            if keep_best:
                best, best_value = better(delta, value, best, best_value)
            size = step_size * (1 - 0.99 * step / steps if schedule == "linear" else 1.0)
            delta = project(delta - size * direction(gradient * mask_), x, eps, norm)
        if keep_best:
            with torch.no_grad():
                best, best_value = better(delta, objective(x + delta), best, best_value)
    return (x + (best if keep_best else delta)).clamp(0, 1).detach()


# The gradient of one pixel in a thousand is below what float16 holds. A power of two, so that nothing is rounded.
SCALE = 2.0**10


def slope(objective: Objective, images: Images, repeats: int = 1) -> tuple[Float[Tensor, " b"], Images]:
    """The objective and its gradient, means over `repeats` evaluations."""
    images = images.detach().requires_grad_()
    values, gradients = [], []
    for _ in range(repeats):
        value = objective(images)
        (gradient,) = torch.autograd.grad(SCALE * value.sum(), images)
        values.append(value.detach())
        gradients.append(gradient / SCALE)
    return torch.stack(values).mean(0), torch.stack(gradients).mean(0) if repeats > 1 else gradients[0]


def steepest(gradient: Images, norm: Norm) -> Images:
    """The direction of unit norm along which the objective grows fastest."""
    if norm == "linf":
        return gradient.sign()
    length = gradient.flatten(1).norm(dim=1).clamp_min(1e-12)
    return gradient / length[:, None, None, None]


class Adam:
    """Adam's step on pixels (Kingma and Ba 2015, arXiv 1412.6980, algorithm 1), for attacks with a penalty and no ball."""

    def __init__(self):
        self.mean, self.square, self.step = 0.0, 0.0, 0

    def __call__(self, gradient: Images) -> Images:
        self.step += 1
        self.mean = 0.9 * self.mean + 0.1 * gradient
        self.square = 0.999 * self.square + 0.001 * gradient.square()
        mean, square = self.mean / (1 - 0.9**self.step), self.square / (1 - 0.999**self.step)
        return mean / (square.sqrt() + 1e-8)


def project(delta: Images, x: Images, eps: float, norm: Norm) -> Images:
    """The nearest perturbation in the ball, then in the box: x + δ in [0,1]. Clipping to the box only shortens it."""
    if norm == "linf":
        delta = delta.clamp(-eps, eps)
    else:
        length = delta.flatten(1).norm(dim=1).clamp_min(1e-12)
        delta = delta * (eps / length).clamp(max=1)[:, None, None, None]
    return (x + delta).clamp(0, 1) - x


def better(delta: Images, value: Tensor, best: Images, best_value: Tensor) -> tuple[Images, Tensor]:
    """Image by image, whichever of two perturbations has the lower objective. A value that is not finite never wins."""
    value = value.detach()
    wins = value.isfinite() & (value < best_value)
    return torch.where(wins[:, None, None, None], delta, best), torch.where(wins, value, best_value)
