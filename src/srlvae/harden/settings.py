"""Everything a hardening run can be told, with the best known values as defaults."""

from __future__ import annotations

import dataclasses
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from srlvae.config import from_dict
from srlvae.errors import InputError
from srlvae.harden.objective import ObjectiveConfig
from srlvae.images import check_eps
from srlvae.precision import Precision


@dataclass(frozen=True)
class HardenConfig:
    """Settings of one run.

    steps: optimiser steps. batch_size: images an optimiser step, over all processes; micro_batch: images at once in one
    process, the rest is accumulated (0: all). resolution: side of the random crops in pixels. learning_rate: peak of a
    cosine after `warmup` steps, for AdamW with `weight_decay`; `clip`: largest gradient norm. ema: decay of the averaged
    weights; blend: how far the result lies from the original's weights towards them, 1 all the way (α of WiSE-FT, Wortsman et
    al. 2022, arXiv 2109.01903). features: network of the perceptual distance P, or "none". precision: "auto" is bf16 where
    the processor multiplies it. held_out: photographs set apart for the scores. workers: processes that read images.
    """

    steps: int = 4000
    batch_size: int = 16
    micro_batch: int = 0
    resolution: int = 256
    learning_rate: float = 6e-4
    warmup: int = 50
    weight_decay: float = 0.0
    clip: float = 1.0
    ema: float = 0.99
    blend: float = 0.75
    seed: int = 0
    features: Literal["efficientnet-lite0", "lpips-alex", "lpips-vgg", "none"] = "efficientnet-lite0"
    precision: Precision = "auto"
    gradient_checkpointing: bool = False
    checkpoint_every: int = 100
    held_out: int = 32
    workers: int = 4
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)

    def check(self) -> HardenConfig:
        """Return self. Raises InputError for a value out of its range."""
        check_eps(self.objective.eps)
        check_eps(self.objective.latent_eps)
        for name in ("steps", "batch_size", "resolution", "checkpoint_every", "held_out"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.learning_rate <= 0:
            raise InputError(f"learning_rate must be above 0, got {self.learning_rate}")
        if not 0 < self.blend <= 1:
            raise InputError(f"blend must be above 0 and at most 1, got {self.blend}")
        if self.objective.stages < 1:
            raise InputError(f"stages must be at least 1, got {self.objective.stages}")
        if not self.objective.has_terms:
            raise InputError("the objective has no term with a weight: there is nothing to minimise")
        return self

    def changed(self, eps: float | None = None, **changes: object) -> HardenConfig:
        """A copy with single settings changed; `eps` is the radius of all inner attacks. Raises InputError as `check` does."""
        objective = self.objective if eps is None else dataclasses.replace(self.objective, eps=eps, latent_eps=eps)
        values = asdict(self) | {"objective": asdict(objective)} | changes
        return from_dict(HardenConfig, values, "settings").check()


PRESETS: dict[str, HardenConfig] = {
    # A GPU, 256 to 512-pixel photographs.
    "default": HardenConfig(),
    # Two cores, an encoder of TAESD's size, photographs of about 128 pixels.
    "cpu": HardenConfig(steps=1300, batch_size=8, resolution=96, warmup=20, checkpoint_every=50, workers=0),
}

# Objectives for any preset: the default, another aim, and the ablations of the field.
OBJECTIVES: dict[str, ObjectiveConfig] = {
    "srlvae": ObjectiveConfig(),
    # For edits and fine-tuning, which see latents alone: attacked ones are to stay where they were.
    "latents": ObjectiveConfig(
        inner=("transfer", "latent"),
        eps=16 / 255,
        steps=3,
        step_size=0.6,
        transfer_steps=4,
        attacked=0.0,
        originality_clean=1.0,
        originality_attacked=1.0,
    ),
    # Lee et al. 2025 as published: perceptual term in the inner attack too, originality on clean images only.
    "paper": ObjectiveConfig(
        inner=("reconstruction",),
        eps=8 / 255,
        inner_perceptual=0.01,
        attacked=1.0,
        clean=0.0,
        perceptual=0.0,
        perceptual_attacked=0.01,
        stages=5,
        detail=0.0,
        originality_clean=0.1,
        originality_attacked=0.0,
    ),
    # Schlarmann et al. 2024 (arXiv 2402.12336): attacked latents back to the original ones, nothing else.
    "fare": ObjectiveConfig(
        inner=("latent",), attacked=0.0, clean=0.0, detail=0.0, originality_clean=0.0, originality_attacked=1.0
    ),
    "noise": ObjectiveConfig(inner=("noise",)),
    "no-attack": ObjectiveConfig(inner=()),
}

# Their result is where training ends: methods as published, and latents, which blending takes back.
UNBLENDED = ("latents", "paper", "fare")


def preset(name: str, objective: str = "srlvae", **changes: Any) -> HardenConfig:
    """The preset `name` with one of OBJECTIVES and single settings changed. Raises InputError for unknown names."""
    for kind, table, key in (("preset", PRESETS, name), ("objective", OBJECTIVES, objective)):
        if key not in table:
            raise InputError(f"unknown {kind} {key!r}; choose one of {', '.join(table)}")
    base = dataclasses.replace(PRESETS[name], objective=OBJECTIVES[objective])
    return (dataclasses.replace(base, blend=1.0) if objective in UNBLENDED else base).changed(**changes)
