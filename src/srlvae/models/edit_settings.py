"""The settings of generated and edited images. Benchmarks have the same defaults, so they measure what users get."""

from __future__ import annotations

from dataclasses import dataclass

from srlvae.config import check_numbers
from srlvae.errors import InputError

STEPS, GUIDANCE, STRENGTH = 25, 3.0, 0.5
# Steps of noise that the models were trained with.
MOST_STEPS_OF_NOISE = 1000


@dataclass(frozen=True)
class EditSettings:
    """How an image is edited by image-to-image.

    - strength: the share of the schedule that is run, above 0 and at most 1. At 1 nothing of the image is left.
    - steps: of the sampler over the whole schedule.
    - guidance: of classifier-free guidance. 1 is none.
    """

    strength: float = STRENGTH
    steps: int = STEPS
    guidance: float = GUIDANCE

    def check(self) -> EditSettings:
        """Return self. Raises InputError for a value out of its range."""
        check_numbers(self, "", strength=(0, 1), steps=(1, MOST_STEPS_OF_NOISE), guidance=(-1000, 1000))
        return self


def steps_run(steps: int, strength: float) -> int:
    """How many of `steps` an edit of `strength` runs.

    Raises InputError if `strength` is not above 0 and at most 1, or leaves no step to run.
    """
    if not 0 < strength <= 1:
        raise InputError(f"strength must be above 0 and at most 1, got {strength}")
    run = min(int(steps * strength), steps)
    if run < 1:
        raise InputError(f"{steps} steps at strength {strength} are less than one; give more of either")
    return run
