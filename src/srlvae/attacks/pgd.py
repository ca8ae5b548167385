"""The norm balls and the one loop: projected gradient descent on an objective `images → one number an image`.

Madry et al. 2018 (arXiv 1706.06083). Every attack of the package is an objective handed to `pgd`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from srlvae.rng import Generators, uniform_like

Images = Float[Tensor, "b 3 h w"]
Mask = Float[Tensor, "b 1 h w"]
Objective = Callable[[Images], Float[Tensor, " b"]]
Norm = Literal["linf", "l2"]
Schedule = Literal["constant", "linear"]


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
    mask: Mask | None = None,
    keep_best: bool = True,
) -> Images:
    """Images near `x` that make `objective` small, each on its own.

    eps: radius of the ball around `x`, in [0,1] units (for ℓ2: of the whole image's vector). step_size: in the same units;
    `linear` lets it fall to a hundredth at the last step. generators: one an image for a uniform random start; None starts
    at `x`. mask: 1 where pixels may change. keep_best: return the best iterate seen, for one more forward pass, and not
    the last. Costs `steps` forward and backward passes; the parameters' gradients are neither computed nor touched.
    """
    # The layout in which CPUs and tensor cores convolve.
    x = x.contiguous(memory_format=torch.channels_last)
    mask_ = 1.0 if mask is None else mask
    delta = torch.zeros_like(x) if generators is None else eps * uniform_like(x, generators)
    delta = project(delta * mask_, x, eps, norm)
    best, best_value = delta, torch.full((len(x),), torch.inf, device=x.device)
    for step in range(steps):
        adversarial = (x + delta).detach().requires_grad_()
        value = objective(adversarial)
        (gradient,) = torch.autograd.grad(value.sum(), adversarial)
        if keep_best:
            best, best_value = better(delta, value, best, best_value)
        size = step_size * (1 - 0.99 * step / max(steps - 1, 1) if schedule == "linear" else 1.0)
        delta = project(delta - size * steepest(gradient, norm) * mask_, x, eps, norm)
    if keep_best:
        with torch.no_grad():
            best, _ = better(delta, objective(x + delta), best, best_value)
    return (x + (best if keep_best else delta)).clamp(0, 1).detach()


def steepest(gradient: Images, norm: Norm) -> Images:
    """The direction of unit norm along which the objective grows fastest."""
    if norm == "linf":
        return gradient.sign()
    length = gradient.flatten(1).norm(dim=1).clamp_min(1e-12)
    return gradient / length[:, None, None, None]


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
