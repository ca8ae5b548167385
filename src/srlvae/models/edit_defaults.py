"""The default settings of generated and edited images. Benchmarks use the same ones, so they measure what users get."""

from __future__ import annotations

STEPS, GUIDANCE, STRENGTH = 25, 3.0, 0.5
