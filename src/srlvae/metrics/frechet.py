"""The Fréchet distance between two sets of feature vectors. It is FID only for Inception's features."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def frechet_distance(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"]) -> float:
    """‖μx − μy‖² + tr(Σx + Σy − 2 (Σx Σy)^½), with n − 1 in the covariances (Heusel et al. 2017, eq. 6). Biased for small n.

    It is computed from the centred data X and Y rather than from the d × d covariances: tr (Σx Σy)^½ is the nuclear norm ‖X
    Yᵀ‖₊ / √((n−1)(m−1)). This stays exact if there are fewer images than dimensions, where Σ is singular.

    Raises ValueError for a set of fewer than two vectors.
    """
    if min(len(x), len(y)) < 2:
        raise ValueError(f"a covariance needs at least 2 vectors, got {len(x)} and {len(y)}")
    x, y = x.double(), y.double()
    mean_x, mean_y = x.mean(0), y.mean(0)
    x, y = (x - mean_x) / (len(x) - 1) ** 0.5, (y - mean_y) / (len(y) - 1) ** 0.5
    # Of more images than dimensions, the triangle of a QR decomposition has the same covariance.
    x, y = (torch.linalg.qr(part, mode="r").R if len(part) > part.shape[1] else part for part in (x, y))
    cross = torch.linalg.svdvals(x @ y.T).sum()
    return float((mean_x - mean_y).square().sum() + x.square().sum() + y.square().sum() - 2 * cross)
