"""Estimates with intervals, from tensors of measurements."""

from __future__ import annotations

import torch
from torch import Tensor

from srlvae.bench.rows import Estimate
from srlvae.metrics.bootstrap import bootstrap_interval, interval_about, resamples
from srlvae.metrics.frechet import frechet_distance
from srlvae.metrics.kernel import KernelDistance
from srlvae.metrics.projection import Projection
from srlvae.metrics.shares import wilson_interval

# How many resamples the interval of a set distance takes. Few, since each needs the singular values of an n × n matrix.
RESAMPLES = 200


def mean_estimate(values: Tensor, seed: int, groups: Tensor | None = None) -> Estimate:
    """The mean of `values`, one for each image, with its 95 % bootstrap interval over images, or over groups of them.

    Infinite values, such as the PSNR of equal images, are left out and do not count. If none is left, there is no value.
    """
    finite = values.isfinite()
    values, groups = values[finite], None if groups is None else groups[finite]
    if not len(values):
        return Estimate(None, None, None, 0)
    low, high = bootstrap_interval(values, torch.Generator().manual_seed(seed), groups=groups)
    return Estimate(values.mean().item(), low, high, len(values))


def share_estimate(found: Tensor) -> Estimate:
    """The share of images, one boolean each, that something was found in, with Wilson's 95 % interval."""
    share = found.double().mean().item()
    return Estimate(share, *wilson_interval(share, len(found)), len(found))


def set_estimates(
    pooled: Tensor, reference: Tensor, groups: Tensor, seed: int, projection: Projection | None = None
) -> dict[str, Estimate]:
    """The KID and the Fréchet distances between two sets of pooled vectors `n d`, with 95 % intervals over the groups.

    Vector i of one set and vector i of the other are a pair, and `groups` numbers the group that the pair belongs to.
    """
    kid = KernelDistance(pooled, reference, (groups, groups))
    measures = {"kid": Estimate(kid.value(), *kid.interval(torch.Generator().manual_seed(seed), RESAMPLES), len(pooled))}
    for name, (x, y) in _frechet_sets(pooled, reference, projection).items():
        ends = frechet_interval(x, y, groups, torch.Generator().manual_seed(seed), RESAMPLES)
        measures[name] = Estimate(frechet_distance(x, y), *ends, len(x))
    return measures


def set_values(
    x: Tensor, y: Tensor, groups: tuple[Tensor, Tensor], projection: Projection | None = None
) -> dict[str, Estimate]:
    """The KID and the Fréchet distances between two sets of pooled vectors, without intervals.

    `groups` numbers the group of each vector of x, and of each vector of y.
    """
    values = {"kid": KernelDistance(x, y, groups).value()}
    values |= {name: frechet_distance(*sets) for name, sets in _frechet_sets(x, y, projection).items()}
    return {name: Estimate(value, None, None, len(x)) for name, value in values.items()}


def _frechet_sets(x: Tensor, y: Tensor, projection: Projection | None) -> dict[str, tuple[Tensor, Tensor]]:
    """The vectors that each Fréchet distance is of, by the name of the measure: a projection's coordinates, and all numbers."""
    projected = {"frechet_pca": (projection(x), projection(y))} if projection else {}
    return {**projected, "frechet": (x, y)}


def frechet_interval(x: Tensor, y: Tensor, groups: Tensor, draw: torch.Generator, draws: int) -> tuple[float, float]:
    """The 95 % interval of a Fréchet distance, from resamples of whole groups of pairs.

    Resampling repeats images, which biases each resample upwards. `interval_about` corrects for that.
    """
    resampled = [frechet_distance(x[pick], y[pick]) for pick in resamples(groups, draws, draw)]
    return interval_about(frechet_distance(x, y), resampled)
