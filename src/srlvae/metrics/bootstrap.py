"""Confidence intervals by resampling images, or groups of images that belong together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor


def bootstrap_interval(
    values: Float[Tensor, " n"],
    generator: torch.Generator,
    level: float = 0.95,
    draws: int = 2000,
    groups: Int[Tensor, " n"] | None = None,
) -> tuple[float, float]:
    """The percentile interval of the mean of `values` (Efron 1979), from `draws` resamples of the images.

    `groups` numbers the group of each value. Values of one group, such as edits of one photograph or images of one fine-tuned
    pipeline, are drawn together. By default every value is a group of its own.
    """
    values = values.double().cpu()
    _, of = torch.unique(torch.arange(len(values)) if groups is None else groups, return_inverse=True)
    sums, counts = (torch.zeros(int(of.max()) + 1).double().index_add(0, of, v) for v in (values, torch.ones_like(values)))
    picks = torch.randint(len(sums), (draws, len(sums)), generator=generator)
    means = sums[picks].sum(1) / counts[picks].sum(1)
    tail = (1 - level) / 2
    low, high = torch.quantile(means, torch.tensor([tail, 1 - tail], dtype=torch.float64)).tolist()
    return low, high


def resamples(groups: Int[Tensor, " n"], draws: int, generator: torch.Generator) -> Iterator[Int[Tensor, " m"]]:
    """The indices of the images in each of `draws` resamples of whole groups."""
    members = [(groups == group).nonzero()[:, 0] for group in groups.unique()]
    for pick in torch.randint(len(members), (draws, len(members)), generator=generator).tolist():
        yield torch.cat([members[i] for i in pick])


def interval_about(value: float, resampled: Sequence[float]) -> tuple[float, float]:
    """The 95 % percentile interval of a statistic that resampling biases, such as a Fréchet distance.

    The interval is moved so that the mean of the resamples lies at `value`, the statistic of the whole sample.
    """
    found = torch.tensor(resampled, dtype=torch.float64)
    low, high = torch.quantile(found, torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    moved = value - found.mean().item()
    return low + moved, high + moved
