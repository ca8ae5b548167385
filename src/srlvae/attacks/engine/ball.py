"""The ball in which an attack looks for a perturbation, and the steps in which it looks; loads nothing that computes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from srlvae.config import budget

# rms: the root mean square over the pixels of an image and their colours.
Norm = Literal["linf", "l2", "rms"]


@dataclass(frozen=True)
class Perceptual:
    """A perceptual budget, P(x+δ, x) ≤ `budget`, kept by a penalty of `weight` for what is beyond it.

    hard: afterwards the perturbation is scaled down until the budget is kept exactly, before it is rounded to grey levels.
    """

    budget: float
    weight: float = 30.0
    hard: bool = False


@dataclass(frozen=True)
class Ball:
    """A bound on perturbations, and the steps of the search in it.

    - eps: the radius in [0,1] units, for ℓ2 that of the whole image's vector. None: pixels are bound by [0,1] alone.
    - step_size: in the same units.
    - falls: the step falls linearly to a hundredth of its size, as in the codes of PhotoGuard and Nightshade.
    - perceptual: a further bound. Only the attacks that were published with one look at it.
    """

    eps: float | None
    steps: int
    step_size: float
    norm: Norm = "linf"
    falls: bool = False
    perceptual: Perceptual | None = None

    @classmethod
    def crossed(cls, eps: float, steps: int) -> Ball:
        """The ℓ∞ ball of radius `eps`, with steps that cross it; see `step_across`."""
        return cls(eps, steps, step_across(eps, steps))

    def resized(self, eps: float | None = None, steps: int | None = None) -> Ball:
        """The same ball with another radius, another number of steps, or both.

        The step keeps its ratio to the radius. Where fewer steps of that size could not cross the ball, they get longer.
        """
        ball, radius = self, self.eps if eps is None else eps
        if eps is not None:
            ball = replace(ball, eps=eps, step_size=self.step_size * (eps / self.eps if self.eps else 1.0))
        if steps is not None:
            least = step_across(radius, steps) if radius is not None and steps < self.steps else 0.0
            ball = replace(ball, steps=steps, step_size=max(ball.step_size, least))
        return ball

    @property
    def radius(self) -> str:
        """The radius as it is written in files and tables: `8/255`, `8 (ℓ2)`, `8/255 (rms)`, or `none`."""
        if self.eps is None:
            return "none"
        if self.norm == "l2":
            return f"{self.eps:g} (ℓ2)"
        return budget(self.eps) + (" (rms)" if self.norm == "rms" else "")

    def step(self, number: int) -> float:
        """The size of step `number`, counted from 0."""
        return self.step_size * (1 - 0.99 * number / self.steps if self.falls else 1.0)


def step_across(eps: float, steps: int) -> float:
    """The step with which a search reaches every place in a ball of radius `eps`: 2.5 · eps / steps.

    Madry et al. 2018 (arXiv 1706.06083), appendix.
    """
    return 2.5 * eps / max(steps, 1)
