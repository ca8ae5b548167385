"""Hardening: what is minimised on which attacks, what it is trained on, the loop, and the folder that comes out."""

from __future__ import annotations

from srlvae.harden.inner import Inner
from srlvae.harden.settings import OBJECTIVES, PRESETS, HardenConfig, Objective, preset
from srlvae.harden.terms import Term
from srlvae.harden.train import Interrupted, Listener, Plan, harden

__all__ = [
    "OBJECTIVES",
    "PRESETS",
    "HardenConfig",
    "Inner",
    "Interrupted",
    "Listener",
    "Objective",
    "Plan",
    "Term",
    "harden",
    "preset",
]
