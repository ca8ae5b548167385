"""Confidence intervals by resampling images."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def bootstrap_interval(
    values: Float[Tensor, " n"], generator: torch.Generator, level: float = 0.95, draws: int = 2000
) -> tuple[float, float]:
    """The percentile interval of the mean of `values` (Efron 1979), from `draws` resamples of the images."""
    picks = torch.randint(len(values), (draws, len(values)), generator=generator)
    means = values.double().cpu()[picks].mean(1)
    tail = (1 - level) / 2
    low, high = torch.quantile(means, torch.tensor([tail, 1 - tail], dtype=torch.float64)).tolist()
    return low, high
