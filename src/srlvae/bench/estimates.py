"""Tensors of measurements → estimates with intervals."""

from __future__ import annotations

import torch
from torch import Tensor

from srlvae.bench.rows import Estimate
from srlvae.metrics.bootstrap import bootstrap_interval, interval_about, resamples
from srlvae.metrics.frechet import frechet_distance
from srlvae.metrics.kernel import KernelDistance

# Resamples of a distance of distributions; a Fréchet distance takes the singular values of an n × n matrix.
DRAWS = 200


def mean_estimate(values: Tensor, seed: int, groups: Tensor | None = None) -> Estimate:
    """The mean of `values`, one an image, with its bootstrap interval over images or over groups of them.

    Infinite values, such as the PSNR of equal images, are left out and do not count; where none is left there is no value.
    """
    finite = values.isfinite()
    values, groups = values[finite], None if groups is None else groups[finite]
    if not len(values):
        return Estimate(None, None, None, 0)
    low, high = bootstrap_interval(values, torch.Generator().manual_seed(seed), groups=groups)
    return Estimate(values.mean().item(), low, high, len(values))


def set_estimates(pooled: Tensor, reference: Tensor, groups: Tensor, seed: int) -> dict[str, Estimate]:
    """Fréchet distance and KID between two sets of pooled vectors that are pairs, with intervals over the groups."""
    frechet = frechet_interval(pooled, reference, groups, torch.Generator().manual_seed(seed), DRAWS)
    kid = KernelDistance(pooled, reference, (groups, groups))
    return {
        "frechet": Estimate(frechet_distance(pooled, reference), *frechet, len(pooled)),
        "kid": Estimate(kid.value(), *kid.interval(torch.Generator().manual_seed(seed), DRAWS), len(pooled)),
    }


def set_values(x: Tensor, y: Tensor, groups: tuple[Tensor, Tensor]) -> dict[str, Estimate]:
    """Fréchet distance and KID between two sets of pooled vectors, without intervals. groups: of x and of y."""
    values = {"frechet": frechet_distance(x, y), "kid": KernelDistance(x, y, groups).value()}
    return {name: Estimate(value, None, None, len(x)) for name, value in values.items()}


def frechet_interval(x: Tensor, y: Tensor, groups: Tensor, draw: torch.Generator, draws: int) -> tuple[float, float]:
    """The 95 % interval over resampled groups of pairs. Resampling repeats images, which biases each draw upwards: see
    `interval_about`."""
    resampled = [frechet_distance(x[pick], y[pick]) for pick in resamples(groups, draws, draw)]
    return interval_about(frechet_distance(x, y), resampled)
