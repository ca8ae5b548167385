"""Fréchet distance between two sets of feature vectors. FID only where the features are Inception's."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def frechet_distance(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"]) -> float:
    """‖μx − μy‖² + tr(Σx + Σy − 2 (Σx Σy)^½), covariances with n − 1 (Heusel et al. 2017, eq. 6). Biased for small n.

    Worked out from the centred data rather than the d × d covariances: tr (Σx Σy)^½ is the nuclear norm of
    Xᵀ-by-Yᵀ, ‖X Yᵀ‖₊ / √((n−1)(m−1)), which stays exact where fewer images than dimensions make Σ singular.
    Raises ValueError for fewer than two vectors a set.
    """
    if min(len(x), len(y)) < 2:
        raise ValueError(f"a covariance needs at least 2 vectors, got {len(x)} and {len(y)}")
    x, y = x.double(), y.double()
    mean_x, mean_y = x.mean(0), y.mean(0)
    x, y = (x - mean_x) / (len(x) - 1) ** 0.5, (y - mean_y) / (len(y) - 1) ** 0.5
    cross = torch.linalg.svdvals(x @ y.T).sum()
    return float((mean_x - mean_y).square().sum() + x.square().sum() + y.square().sum() - 2 * cross)
