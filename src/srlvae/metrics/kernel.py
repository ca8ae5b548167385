"""The kernel distance (KID) between two sets of feature vectors. It is unbiased for any number of images.

Images of two sets that belong together in pairs, such as edits of the same photographs, need `groups` for that.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from srlvae.metrics.bootstrap import interval_about, resamples


def polynomial_kernel(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
    """(xᵀy / d + 1)³ (Bińkowski et al. 2018, eq. 4)."""
    return (x @ y.T / x.shape[1] + 1) ** 3


@dataclass(frozen=True)
class KernelBlock:
    """The kernel's values between two sets of vectors. `apart` marks those of vectors from different groups."""

    values: Float[Tensor, "n m"]
    apart: Bool[Tensor, "n m"]

    def mean(self, rows: Int[Tensor, " r"], columns: Int[Tensor, " c"]) -> Tensor:
        """The mean over the given rows and columns, without pairs of one group."""
        return self.values[rows][:, columns][self.apart[rows][:, columns]].mean()


class KernelDistance:
    """The unbiased squared maximum mean discrepancy under the cubic kernel. It may be negative if the distributions are equal.

    `groups` numbers the group of each vector of x and of y. Vectors of one group, for example of one photograph that both were
    made from, are not independent, so pairs within a group are left out of all means. By default every vector is a group of its
    own.

    Raises ValueError for a set of fewer than two groups.
    """

    def __init__(
        self,
        x: Float[Tensor, "n d"],
        y: Float[Tensor, "m d"],
        groups: tuple[Int[Tensor, " n"], Int[Tensor, " m"]] | None = None,
    ):
        of_x, of_y = groups or (torch.arange(len(x)), torch.arange(len(x), len(x) + len(y)))
        if min(len(of_x.unique()), len(of_y.unique())) < 2:
            raise ValueError(f"KID needs at least 2 vectors a set, of different groups, got {len(x)} and {len(y)}")
        self.groups, x, y = of_x, x.double(), y.double()
        blocks = (x, x, of_x, of_x), (y, y, of_y, of_y), (x, y, of_x, of_y)
        self.blocks = [KernelBlock(polynomial_kernel(a, b), p[:, None] != q[None]) for a, b, p, q in blocks]

    def of(self, rows: Int[Tensor, " r"], columns: Int[Tensor, " c"]) -> float:
        """The distance between x[rows] and y[columns]."""
        within_x, within_y, across = self.blocks
        return float(within_x.mean(rows, rows) + within_y.mean(columns, columns) - 2 * across.mean(rows, columns))

    def value(self) -> float:
        """The distance between all of x and all of y."""
        within_x, within_y, across = (block.values[block.apart].mean() for block in self.blocks)
        return float(within_x + within_y - 2 * across)

    def interval(self, generator: torch.Generator, draws: int) -> tuple[float, float]:
        """The 95 % interval from `draws` resamples of the groups. Both sets must have the same groups, in the same order."""
        # A resample of a single group has no two that are apart; of two groups that is every second one.
        picks = [pick for pick in resamples(self.groups, draws, generator) if len(self.groups[pick].unique()) > 1]
        return interval_about(self.value(), [self.of(pick, pick) for pick in picks])


def kernel_distance(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"], groups: tuple[Tensor, Tensor] | None = None) -> float:
    """The kernel distance (KID) as a number; see `KernelDistance`. Sets that are paired need `groups`."""
    return KernelDistance(x, y, groups).value()
