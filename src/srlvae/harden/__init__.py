"""Hardening: the objective, what it is trained on, the loop, and the folder that comes out."""

from __future__ import annotations

from srlvae.harden.objective import ObjectiveConfig
from srlvae.harden.settings import OBJECTIVES, PRESETS, HardenConfig, preset
from srlvae.harden.train import Interrupted, Listener, Plan, harden

__all__ = ["OBJECTIVES", "PRESETS", "HardenConfig", "Interrupted", "Listener", "ObjectiveConfig", "Plan", "harden", "preset"]
