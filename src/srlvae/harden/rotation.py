"""The batches that take turns: which one each step trains on, and what is kept of each.

Every batch is visited a number of times and then replaced by a new one. Several visits make perturbations stronger, and taking
turns keeps the encoder from learning one batch by heart. The batch of a step depends on the step alone, so an interrupted run
finds its place again.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count

from srlvae.harden.terms import CleanBatch
from srlvae.images import Images


@dataclass(frozen=True)
class Visit:
    """The batch of one step: its place among those that take turns, its number in the run, and whether it is new."""

    place: int
    number: int
    new: bool


def visits(steps: int, places: int, each: int) -> list[Visit]:
    """The batches of `steps` steps, where `places` batches take turns and each stays for `each` visits."""
    left, current, numbers, found = [0] * places, [0] * places, count(), []
    for step in range(steps):
        place = step % places
        new = left[place] == 0
        if new:
            # The first ones leave early, one after another: replacements are spread evenly from then on.
            left[place] = each - (place * each // places if step < places else 0)
            current[place] = next(numbers)
        left[place] -= 1
        found.append(Visit(place, current[place], new))
    return found


@dataclass
class MicroBatch:
    """Images that go through the networks at once.

    `clean` is what is known of them, `numbers` are their numbers in the run, and `delta` are their perturbations `b 3 h w`.
    """

    clean: CleanBatch
    numbers: list[int]
    delta: Images

    def halves(self) -> list[MicroBatch]:
        """The same images in two micro-batches, to need less memory."""
        cut = (len(self.numbers) + 1) // 2
        halves = [s for s in (slice(0, cut), slice(cut, None)) if self.numbers[s]]
        return [MicroBatch(self.clean.part(s), self.numbers[s], self.delta[s]) for s in halves]
