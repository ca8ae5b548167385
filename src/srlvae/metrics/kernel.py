"""Kernel distance (KID) between two sets of feature vectors: unbiased at any number of images."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def polynomial_kernel(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
    """(xᵀy / d + 1)³ (Bińkowski et al. 2018, eq. 4)."""
    return (x @ y.T / x.shape[1] + 1) ** 3


def kernel_distance(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"]) -> float:
    """The unbiased squared maximum mean discrepancy under the cubic kernel; may fall below zero for equal distributions.

    Raises ValueError for fewer than two vectors a set.
    """
    n, m = len(x), len(y)
    if min(n, m) < 2:
        raise ValueError(f"KID needs at least 2 vectors a set, got {n} and {m}")
    x, y = x.double(), y.double()
    within_x, within_y, across = polynomial_kernel(x, x), polynomial_kernel(y, y), polynomial_kernel(x, y)
    same_x = (within_x.sum() - within_x.trace()) / (n * (n - 1))
    same_y = (within_y.sum() - within_y.trace()) / (m * (m - 1))
    return float(same_x + same_y - 2 * across.mean())


def kernel_distance_with_error(
    x: Float[Tensor, "n d"], y: Float[Tensor, "m d"], generator: torch.Generator, subsets: int = 100, size: int = 1000
) -> tuple[float, float]:
    """Mean and standard deviation of the kernel distance over random subsets, as KID is usually given."""
    size = min(size, len(x), len(y))
    values = [kernel_distance(_subset(x, size, generator), _subset(y, size, generator)) for _ in range(subsets)]
    found = torch.tensor(values, dtype=torch.float64)
    return found.mean().item(), found.std().item()


def _subset(x: Tensor, size: int, generator: torch.Generator) -> Tensor:
    return x[torch.randperm(len(x), generator=generator)[:size]]
