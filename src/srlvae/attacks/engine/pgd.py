"""The one loop: projected gradient descent on an objective `images → one number an image`.

Madry et al. 2018 (arXiv 1706.06083). Every attack of the package is an objective that is handed to `pgd`, or to `apgd`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from srlvae.attacks.engine.ball import Ball, Norm
from srlvae.errors import InputError
from srlvae.images import Images, check_images
from srlvae.rng import Generators, uniform_like

Mask = Float[Tensor, "b 1 h w"]
Objective = Callable[[Images], Float[Tensor, " b"]]
# Gradient → direction of a step, of about unit size; may remember what it saw.
Rule = Callable[[Images], Images]
# Images as a defence would pass them on, drawn anew at every call; differentiable.
View = Callable[[Images], Images]
# Told of every step: the objective of each image, None where it does not compare with other steps', and its gradient where the
# search has one.
Watch = Callable[[Tensor | None, Tensor | None], None]
# The gradient of one pixel in a thousand is below what float16 holds. A power of two, so that nothing is rounded.
SCALE = 2.0**10


@dataclass(frozen=True)
class Loop:
    """How the loop looks at images, whatever the attack.

    - mask: 1 where pixels may change, `b 1 h w`.
    - restarts: the number of random starts, of which each image keeps the best.
    - repeats: evaluations in a step, whose gradients are averaged.
    - view: what the objective sees of the images. A random one gives the expectation over transformations (Athalye et al. 2018,
      arXiv 1707.07397).
    - penalty: what is added to the objective, of the images themselves and not of the view.
    - watch: called at every step; see `Watch`.
    """

    mask: Mask | None = None
    restarts: int = 1
    repeats: int = 1
    view: View | None = None
    penalty: Objective | None = None
    watch: Watch | None = None

    def whole(self, objective: Objective) -> Objective:
        """The objective of what `view` lets it see, and the penalty."""

        def both(images: Images) -> Float[Tensor, " b"]:
            value = objective(self.view(images) if self.view else images)
            return value + self.penalty(images) if self.penalty else value

        return both

    def slope(self, objective: Objective, images: Images) -> tuple[Float[Tensor, " b"], Images]:
        """The whole objective and its gradient, as means over `repeats` evaluations."""
        return slope(self.whole(objective), images, self.repeats)

    def counted(self) -> None:
        """Tell `watch` of a step whose objective is none of those that it compares."""
        if self.watch:
            self.watch(None, None)

    @torch.no_grad()
    def value(self, objective: Objective, images: Images) -> Float[Tensor, " b"]:
        """The whole objective without its gradient, as a mean over `repeats` evaluations."""
        whole = self.whole(objective)
        return torch.stack([whole(images) for _ in range(self.repeats)]).mean(0)

    def masked(self, change: Images) -> Images:
        """`change` where pixels may change, and 0 elsewhere."""
        return change if self.mask is None else change * self.mask


def pgd(
    x: Images,
    objective: Objective,
    ball: Ball,
    *,
    generators: Generators | None = None,
    loop: Loop | None = None,
    keep_best: bool | None = None,
    rule: Callable[[], Rule] | None = None,
) -> Images:
    """Search the ball around each image of `x` for one that makes `objective` small.

    - generators: one for each image, for a uniform random start. Without them the search starts at `x`.
    - keep_best: return the best iterate seen, for one more forward pass, in place of the last. The default is to do so except
      behind a view, where values do not compare. Turn it off for an objective that draws anew at every call.
    - rule: makes the function from gradients to directions. The default is the steepest direction of the norm.

    It costs restarts · steps · repeats forward and backward passes. Gradients of parameters are neither computed nor touched.

    Raises InputError for a best iterate behind a view, and for restarts that would be paid for and thrown away.
    """
    # The layout in which CPUs and tensor cores convolve.
    x, loop = check_images(x).contiguous(memory_format=torch.channels_last), loop or Loop()
    keep_best = _keeps_best(keep_best, loop, random_start=generators is not None)
    delta = best = torch.zeros_like(x)
    best_value = torch.full((len(x),), torch.inf, device=x.device)
    for _ in range(loop.restarts):
        delta = torch.zeros_like(x) if generators is None else random_start(x, ball, generators, loop)
        direction = rule() if rule else partial(steepest, norm=ball.norm)
        for number in range(ball.steps):
            value, gradient = loop.slope(objective, x + delta)
            if loop.watch:
                loop.watch(value, gradient)
            if keep_best:
                best, best_value = better(delta, value, best, best_value)
            delta = project(delta - ball.step(number) * direction(loop.masked(gradient)), x, ball.eps, ball.norm)
        if keep_best:
            with torch.no_grad():
                best, best_value = better(delta, loop.whole(objective)(x + delta), best, best_value)
    return (x + (best if keep_best else delta)).clamp(0, 1).detach()


def _keeps_best(wanted: bool | None, loop: Loop, random_start: bool) -> bool:
    if wanted and loop.view is not None:
        raise InputError("with random views, values at different steps cannot be compared, so there is no best iterate")
    keeps = loop.view is None if wanted is None else wanted
    if loop.restarts > 1 and not (keeps and random_start):
        raise InputError(
            f"{loop.restarts} restarts, of which all but one would be thrown away: they need a random start and an objective "
            "whose values compare from step to step"
        )
    return keeps


def random_start(x: Images, ball: Ball, generators: Generators, loop: Loop) -> Images:
    """Uniform noise within ±eps put into the ball, where pixels may change; in ℓ2 it spends the whole radius.

    Raises InputError for a ball without a radius.
    """
    if ball.eps is None:
        raise InputError("a random start needs a radius: give eps, or start at the image")
    return project(loop.masked(ball.eps * uniform_like(x, generators)), x, ball.eps, ball.norm)


def slope(
    objective: Callable[[Tensor], Float[Tensor, " b"]], images: Float[Tensor, "b ..."], repeats: int = 1
) -> tuple[Float[Tensor, " b"], Float[Tensor, "b ..."]]:
    """The objective and its gradient, as means over `repeats` evaluations. It may be one of other numbers than pixels.

    Where the gradient is not finite it is 0: Adam's means, and a step that is divided by its length, would be lost for good.
    """
    images = images.detach().requires_grad_()
    values, gradients = [], []
    for _ in range(repeats):
        value, gradient = _scaled_slope(objective, images, SCALE)
        if not gradient.isfinite().all():  # the scale is too much for an objective of thousands in float16
            value, gradient = _scaled_slope(objective, images, 1.0)
        values.append(value)
        gradients.append(gradient)
    gradient = torch.stack(gradients).mean(0) if repeats > 1 else gradients[0]
    return torch.stack(values).mean(0), gradient.nan_to_num(0.0, 0.0, 0.0)


def _scaled_slope(
    objective: Callable[[Tensor], Float[Tensor, " b"]], images: Float[Tensor, "b ..."], scale: float
) -> tuple[Float[Tensor, " b"], Float[Tensor, "b ..."]]:
    value = objective(images)
    (gradient,) = torch.autograd.grad(scale * value.sum(), images)
    return value.detach(), gradient / scale


def steepest(gradient: Images, norm: Norm) -> Images:
    """The direction of unit norm along which the objective grows fastest."""
    if norm == "linf":
        return gradient.sign()
    return gradient / size_of(gradient, norm).clamp_min(1e-12)[:, None, None, None]


def size_of(delta: Images, norm: Norm) -> Float[Tensor, " b"]:
    """How large each perturbation is in the norm of a budget."""
    if norm == "linf":
        return delta.flatten(1).abs().amax(1)
    length = delta.flatten(1).norm(dim=1)
    return length if norm == "l2" else length / delta[0].numel() ** 0.5


class Adam:
    """Adam's step on pixels (Kingma and Ba 2015, arXiv 1412.6980, algorithm 1), for attacks with a penalty."""

    def __init__(self):
        self.mean, self.square, self.step = 0.0, 0.0, 0

    def __call__(self, gradient: Images) -> Images:
        """Return the direction of this step, given its gradient."""
        self.step += 1
        self.mean = 0.9 * self.mean + 0.1 * gradient
        self.square = 0.999 * self.square + 0.001 * gradient.square()
        mean, square = self.mean / (1 - 0.9**self.step), self.square / (1 - 0.999**self.step)
        return mean / (square.sqrt() + 1e-8)


def project(delta: Images, x: Images, eps: float | None, norm: Norm) -> Images:
    """The nearest perturbation in the ball, then in the box: x + δ in [0,1]. Clipping to the box only shortens it."""
    if eps is not None and norm == "linf":
        delta = delta.clamp(-eps, eps)
    elif eps is not None:
        delta = delta * (eps / size_of(delta, norm).clamp_min(1e-12)).clamp(max=1)[:, None, None, None]
    return (x + delta).clamp(0, 1) - x


def better(delta: Tensor, value: Tensor, best: Tensor, best_value: Tensor) -> tuple[Tensor, Tensor]:
    """Image by image, whichever of two perturbations has the lower objective. A value that is not finite never wins."""
    value = value.detach()
    wins = value.isfinite() & (value < best_value)
    return torch.where(wins.view(-1, *(1,) * (delta.ndim - 1)), delta, best), torch.where(wins, value, best_value)
