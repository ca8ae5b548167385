"""Confidence intervals of shares: Wilson's, which says something where a share is 0 or 1 and where counts are small."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

# The quantile of a 95 % interval: of the normal distribution, and of Student's with 1, 2, … degrees of freedom.
NORMAL = 1.959964
STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
STUDENT += (2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086)


def student(freedom: int) -> float:
    """The quantile of Student's distribution with `freedom` ≥ 1 degrees of freedom, for a 95 % interval."""
    # Beyond the table it is the normal one's to two digits, with the first term of its expansion.
    return STUDENT[freedom - 1] if freedom <= len(STUDENT) else NORMAL + (NORMAL**3 + NORMAL) / (4 * freedom)


def wilson_interval(share: float, n: int | float, quantile: float = NORMAL) -> tuple[float, float]:
    """Wilson's 95 % interval of a share that was found in `n` independent images (Wilson 1927; Brown, Cai, DasGupta 2001)."""
    shrunk = n / (n + quantile**2)
    middle = shrunk * share + (1 - shrunk) / 2
    half = quantile * (shrunk * share * (1 - share) + (1 - shrunk) / 4) ** 0.5 / (n + quantile**2) ** 0.5
    return max(middle - half, 0.0), min(middle + half, 1.0)


def clustered_interval(strata: Sequence[Sequence[float]], n: int) -> tuple[float, float]:
    """The 95 % interval of a share whose `n` images come in clusters of equal size, the mean of the strata's means.

    `strata` has the shares of the clusters, such as fine-tunings, stratum by stratum; what differs between strata is fixed, and
    does not widen the interval. It is Wilson's, with as many images as would vary by themselves as much as clusters do (at most
    `n`), and Student's quantile in place of the normal one: so a few clusters do not look like many (Kott and Carr 1997). The
    clusters of all strata are taken to vary alike where a stratum has but one. With no stratum of two clusters it is that of
    independent images, which is too narrow.
    """
    share = statistics.fmean(map(statistics.fmean, strata))
    freedom = sum(len(own) - 1 for own in strata)
    if not freedom:
        return wilson_interval(share, n)
    spread = {i: statistics.variance(own) for i, own in enumerate(strata) if len(own) > 1}
    pooled = sum(found * (len(strata[i]) - 1) for i, found in spread.items()) / freedom
    varied = sum(spread.get(i, pooled) / len(own) for i, own in enumerate(strata)) / len(strata) ** 2
    size = min(n, share * (1 - share) / varied) if varied else n
    return wilson_interval(share, size, student(freedom))
