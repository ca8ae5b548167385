"""When not to believe an attack: signs that it failed for a reason that is not the defence.

After the checklists of Carlini et al. 2019 (arXiv 1902.06705) and AutoAttack's flags (Croce et al. 2021, arXiv 2010.09670).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

# Of the pixels at a step; rounding alone leaves some.
FLAT = 0.5


class Trace:
    """Watches the attack on one batch, step by step: the objective of each image and how much of its gradient is useless.

    `stepped` is called after each step with its number and the mean objective, None for a step whose objective does not compare
    with the others'. Of several random starts, which come one after
    another, what is said is of the mean over `starts` at the same step.
    """

    def __init__(self, stepped: Callable[[int, float | None], None] = lambda step, objective: None):
        self.values: list[Tensor] = []
        self.flat: list[Tensor] = []
        self.stepped, self.starts, self.steps = stepped, 1, 0

    def __call__(self, value: Tensor | None, gradient: Tensor | None) -> None:
        """Take note of a step; see `Watch`."""
        self.steps += 1
        if value is not None:
            self.values.append(value.detach().cpu())
            self.flat.append(torch.zeros(len(value)) if gradient is None else useless(gradient).cpu())
        self.stepped(self.steps, None if value is None else value.mean().item())

    def join(self, parts: Sequence[Trace]) -> None:
        """Take over what traces of the images, one after another, took note of, as if all had been attacked at once."""
        self.values = [torch.cat(step) for step in zip(*(part.values for part in parts), strict=True)]
        self.flat = [torch.cat(step) for step in zip(*(part.flat for part in parts), strict=True)]

    def _objectives(self) -> Float[Tensor, "steps b"]:
        """The objectives, as means over all starts."""
        return torch.stack(self.values).unflatten(0, (self.starts, -1)).mean(0)

    def ends(self, image: int) -> list[float]:
        """The objective of an image at the first and at the last step; empty for a run of no steps."""
        return self._objectives()[[0, -1], image].tolist() if self.values else []

    def fell_at_last(self, image: int) -> float | None:
        """The share by which the objective of an image, which is to be small, fell in the last quarter of the steps.

        Of a run that has converged it is near 0. None for fewer than four steps, and for values that are not above 0.
        """
        if len(self.values) < 4 * self.starts:
            return None
        values = self._objectives()[:, image]
        before, last = values[-1 - len(values) // 4].item(), values[-1].item()
        return (before - last) / before if before > 0 else None

    def doubts(self, count: int) -> list[list[str]]:
        """What speaks against believing the attack, for each of `count` images. A run of one step raises no doubts."""
        if len(self.values) < 2 * self.starts:
            return [[] for _ in range(count)]
        values, flat = self._objectives(), torch.stack(self.flat)
        quarter = max(1, len(values) // 4)
        first, last = values[:quarter].mean(0), values[-quarter:].mean(0)
        found = []
        for i in range(count):
            reasons = []
            if not values[:, i].isfinite().all():
                reasons.append("the objective is not finite")
            elif last[i] >= first[i]:
                reasons.append("the objective did not improve with the steps")
            if flat[:, i].mean() > FLAT:
                reasons.append(f"{flat[:, i].mean():.0%} of the gradient is zero or not finite")
            found.append(reasons)
        return found


def useless(gradient: Tensor) -> Float[Tensor, " b"]:
    """The share of each image's pixels and colours whose gradient is zero or not finite."""
    return ((gradient == 0) | ~gradient.isfinite()).flatten(1).float().mean(1)


def transfer_doubts(transfer: Float[Tensor, " b"], white_box: Float[Tensor, " b"]) -> list[str]:
    """A doubt if attacks made on another model hurt more, on average, than those made on the model itself.

    `transfer` and `white_box` are the harm done to each image, larger for worse. There is an entry for each image on which the
    transferred attack is stronger.
    """
    if transfer.mean() <= white_box.mean():
        return []
    return ["the same attack in transfer is stronger: this one is too weak"] * int((transfer > white_box).sum())
