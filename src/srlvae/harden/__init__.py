"""Hardening: the objective, the attacks it trains against, the photographs, the training loop, and the folder it writes."""

from __future__ import annotations

from srlvae.harden.inner import InnerAttack
from srlvae.harden.settings import OBJECTIVES, PRESETS, HardenConfig, Objective, preset
from srlvae.harden.terms import Term
from srlvae.harden.train import Interrupted, harden

__all__ = [
    "OBJECTIVES",
    "PRESETS",
    "HardenConfig",
    "InnerAttack",
    "Interrupted",
    "Objective",
    "Term",
    "harden",
    "preset",
]
