"""The batches that take turns: which one a step trains on, and what is kept of each.

Each is visited a number of times and then replaced by a new one. Visits make perturbations stronger; turns keep the encoder
from learning one batch by heart. Which one it is depends on the step alone, so that an interrupted run finds its place again.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count

from srlvae.harden.terms import Clean
from srlvae.images import Images


@dataclass(frozen=True)
class Visit:
    """One step's batch: its place among those that take turns, its number in the run, whether it is new."""

    place: int
    number: int
    new: bool


def visits(steps: int, places: int, each: int) -> list[Visit]:
    """The batches of `steps` steps: `places` take turns, and each stays for `each` visits."""
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
class Part:
    """Images that go through the networks at once: what is known of them, their numbers in the run, their perturbations."""

    clean: Clean
    numbers: list[int]
    delta: Images

    def halves(self) -> list[Part]:
        cut = (len(self.numbers) + 1) // 2
        halves = [s for s in (slice(0, cut), slice(cut, None)) if self.numbers[s]]
        return [Part(self.clean.part(s), self.numbers[s], self.delta[s]) for s in halves]
