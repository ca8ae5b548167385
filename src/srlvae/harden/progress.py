"""How far a hardening run has come."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from srlvae.harden.terms import WEIGHT


@dataclass
class Progress:
    """How far a run has come; it is stored with every checkpoint.

    `log_weight` is the logarithm of the weight that keeps clean latents close. `unreadable` has the reason for every photograph
    that could not be used, by name, and `scaler` the state of float16's gradient scaler. `rows` has how many rows the parts of
    a stream's shards have, as far as they were read. `planned` has the numbers of steps that the run was to take, more than one
    if it was told to take others on the way.
    """

    step: int = 0
    steps_skipped: int = 0
    log_weight: float = math.log(WEIGHT)
    seconds: float = 0.0
    unreadable: dict[str, str] = field(default_factory=dict)
    scaler: dict[str, float] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)
    planned: list[int] = field(default_factory=list)

    def check(self) -> Progress:
        """Return the progress. Raises ValueError for values that no run has."""
        counts = type(self.step) is type(self.steps_skipped) is int and min(self.step, self.steps_skipped) >= 0
        numbers = all(isinstance(value, int | float) and math.isfinite(value) for value in (self.log_weight, self.seconds))
        tables = all(isinstance(table, dict) for table in (self.unreadable, self.scaler, self.rows))
        tables = tables and isinstance(self.planned, list) and all(type(steps) is int for steps in self.planned)
        if not (counts and numbers and tables and all(isinstance(reason, str) for reason in self.unreadable.values())):
            raise ValueError("its progress is none of a run")
        return self
