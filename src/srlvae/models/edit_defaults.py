"""How pictures are generated and edited where nothing else is said: one place, so that benchmarks measure what users get."""

from __future__ import annotations

STEPS, GUIDANCE, STRENGTH = 25, 3.0, 0.5
