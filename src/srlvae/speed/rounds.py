"""Ways to do the same work, timed in turns: what slows the machine down for a while slows all of them down."""

from __future__ import annotations

import math
import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from srlvae.bench.rows import Estimate, Row

Clock = Callable[[], float]


@dataclass(frozen=True)
class Work:
    """The same work on `images` images, done in several ways; all others are compared with `reference`, if that is one.

    attack, eps: as in the condition of a row.
    """

    name: str
    images: int
    ways: dict[str, Callable[[], object]]
    reference: str = ""
    attack: str = "none"
    eps: str = "0"


def processor_seconds() -> float:
    """The seconds of processor time that this process and those that it has waited for have taken."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def clock_of(device: torch.device) -> Clock:
    """What seconds are counted with: a processor's, which others on the machine do not take part in; or a GPU's by the wall."""
    if device.type == "cpu":
        return processor_seconds

    def wall() -> float:
        torch.accelerator.synchronize(device)
        return time.perf_counter()

    return wall


def rows_of_work(work: Work, rounds: int, clock: Clock) -> list[Row]:
    """A row for each way, from `rounds` rounds, in each of which every way has a turn. A round before them does not count.

    Measures are `seconds`, those for an image, and `faster`, how many times as fast as the reference in the same round. They
    are medians over the rounds.
    """
    seconds: dict[str, list[float]] = {way: [] for way in work.ways}
    for number in range(-1, rounds):
        for way in list(work.ways) if number % 2 == 0 else reversed(work.ways):
            began = clock()
            work.ways[way]()
            if number >= 0:
                seconds[way].append((clock() - began) / work.images)
    rows = []
    for way, found in seconds.items():
        measures = {"seconds": median_estimate(found)}
        if work.reference and way != work.reference:
            pairs = zip(seconds[work.reference], found, strict=True)
            measures["faster"] = median_estimate([theirs / max(own, 1e-9) for theirs, own in pairs])
        condition: dict[str, str | int | float] = {"attack": work.attack, "eps": work.eps, "work": work.name, "way": way}
        rows.append(Row(condition, "none", "none", work.images, measures))
    return rows


def median_estimate(values: list[float]) -> Estimate:
    """The median, with the interval between two of the values that has it in 95 % of the cases, whatever the distribution.

    Where five values or fewer are too few for that, it is the one from the smallest to the largest.
    """
    ordered, n, k, missed = sorted(values), len(values), 0, 2.0 / 2 ** len(values)
    while k + 1 < n / 2 and missed <= 0.05:
        k += 1
        missed += 2 * math.comb(n, k) / 2**n
    k = max(0, k - 1 if missed > 0.05 else k)
    return Estimate(statistics.median(ordered), ordered[k], ordered[n - 1 - k], n)
