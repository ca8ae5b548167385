"""How well a score tells two sets apart: the area under the receiver operating characteristic."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor


def shares_below(positive: Float[Tensor, " n"], negative: Float[Tensor, " m"]) -> Float[Tensor, " n"]:
    """Of each positive score, the share of negative ones below it, ties counted half, in [0,1] and float64.

    Their mean is the area under the curve (Mann and Whitney 1947), so that its interval is that of a mean.
    """
    above = (positive[:, None] > negative).double() + 0.5 * (positive[:, None] == negative).double()
    return above.mean(1)
