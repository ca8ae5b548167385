"""The learning rate over a run, and the average of the weights."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor


def warm_cosine(step: int, steps: int, warmup: int) -> float:
    """The share of the peak learning rate at `step`, counted from 0: a linear warm-up times half a cosine down to zero.

    Loshchilov and Hutter 2017 (arXiv 1608.03983, eq. 5), one period.
    """
    return min(1.0, (step + 1) / max(warmup, 1)) * 0.5 * (1 + math.cos(math.pi * step / steps))


def most_skipped(step: int) -> int:
    """How many steps without a finite gradient a run may leave out up to `step`: float16's scaler needs some at first."""
    return 10 + step // 20


@torch.no_grad()
def update_average(average: Iterable[Tensor], weights: Iterable[Tensor], step: int, decay: float) -> None:
    """Update an exponential average with the weights after `step` steps, counted from 1.

    The decay grows as step / (step + 9) up to `decay`. So the average begins as a plain mean and soon forgets the start.
    """
    share = 1 - min(decay, step / (step + 9))
    for slow, fast in zip(average, weights, strict=True):
        slow.lerp_(fast.detach(), share)
