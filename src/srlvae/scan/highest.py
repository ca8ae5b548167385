"""The pictures of many shards that a page shows: the highest scores, and some that are unlike the clean images."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from srlvae.scan.verdicts import Score

# Pictures that a page shows at least and at most, in between all suspicious ones; and those shown that are unlike.
LEAST, MOST, OTHERS = 60, 300, 60


@dataclass(frozen=True)
class Placed:
    """A picture in a shard: its number among the pictures there, and its score."""

    shard: str
    number: int
    score: Score


class Highest:
    """Keeps the highest scores of shards that are added one after another; memory does not grow with their number."""

    def __init__(self) -> None:
        self.like: list[Placed] = []
        self.others: list[Placed] = []

    def add(self, shard: str, scores: Sequence[Score]) -> None:
        """Add a shard. scores: of all its pictures, in their order there."""
        placed = [Placed(shard, number, score) for number, score in enumerate(scores) if score.value is not None]
        self.like = _largest(MOST, [*self.like, *(one for one in placed if not one.score.unlike)])
        self.others = _largest(OTHERS, [*self.others, *(one for one in placed if one.score.unlike)])

    def shown(self, suspicious: int) -> list[Placed]:
        """The highest scores that a page shows where `suspicious` pictures are suspicious."""
        return self.like[: max(LEAST, min(suspicious, MOST))]


def _largest(number: int, placed: Iterable[Placed]) -> list[Placed]:
    return heapq.nlargest(number, placed, key=lambda one: one.score.value or 0.0)
