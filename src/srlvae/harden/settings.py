"""All settings of a hardening run, with the best known values as defaults."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from srlvae.config import MOST_IMAGES, MOST_PIXELS, MOST_SEED, MOST_STEPS, check_numbers, from_dict
from srlvae.errors import InputError, unknown
from srlvae.harden.inner import InnerAttack
from srlvae.harden.terms import Term
from srlvae.images import check_eps
from srlvae.precision import Precision
from srlvae.training.schedule import warm_cosine

# Half of the images are pushed away on the encoder in training. The others get what published attacks do to the original one.
ATTACKS = (
    InnerAttack("away", share=3.0),
    InnerAttack("away", "original", share=1.0, steps=4, step_size=0.6),
    InnerAttack("target", "original", share=2.0, steps=4, step_size=0.6),
)
# Attacked latents back to where clean ones were. The relative shift counts all directions alike and the decoder does not, the
# less so the more channels there are: hence the pictures, attacked and clean ones.
TERMS = (Term("shift", "attacked", 1.0), Term("image", "attacked", 2.0), Term("error", "clean", 0.05))


@dataclass(frozen=True)
class Objective:
    """What is minimised, and on which attacks.

    - `terms` are the terms of the loss; see `Term`.
    - `decode_every`: terms on pictures look at one image in this many, and count this many times as much there, because a pass
      through the decoder costs more than one through the encoder.
    - `attacks` are the attacks of the inner step; see `InnerAttack`. Without any, training is on clean images alone.
    - `closeness` bounds how far clean latents may lie from the original's: ‖E(x) − E₀(x)‖ ≤ closeness · ‖E₀(x)‖ in the mean
      square. The weight of a further term is steered to keep the bound (after LORE, arXiv 2505.18884). The bound begins at
      twice this value and is reached after four fifths of the run, as at a high learning rate nothing holds still. 0 leaves the
      term out.
    - `ramp` is the share of the run over which the radii of the attacks grow from a quarter to all of their `eps`.
    - `weaker` is the share of images whose perturbations are weaker than that, by a factor that is uniform in [0,1]. Without
      them an encoder may learn to tell attacked images from clean ones, be close to the original on clean ones alone, and move
      further under the grain of a photograph than under a strong attack.
    - `turns` is the number of images that take turns, in batches. With fewer, the encoder learns them by heart.
    - `visits` is how many times a batch is trained on before a new one takes its place. With more, it is learnt by heart.
    - `hold_variance` makes the variance of the posterior a constant that no image can change: the original's mean.
    """

    terms: tuple[Term, ...] = TERMS
    decode_every: int = 4
    attacks: tuple[InnerAttack, ...] = ATTACKS
    closeness: float = 0.11
    ramp: float = 0.5
    weaker: float = 0.0
    turns: int = 256
    visits: int = 8
    hold_variance: bool = True

    @property
    def uses_features(self) -> bool:
        """Whether a term or an attack compares features, for which a feature network is needed."""
        return any(term.measure == "features" for term in self.terms) or any(attack.perceptual for attack in self.attacks)

    def radius(self, progress: float) -> float:
        """The share of their `eps` that attacks have at `progress`, the finished share of the run in [0,1]."""
        return 0.25 + 0.75 * min(1.0, progress / self.ramp) if self.ramp else 1.0

    def bound(self, progress: float) -> float:
        """How far clean latents may lie from the original's at `progress`, relative to their norm."""
        return self.closeness * (1 + max(0.0, 1 - progress / 0.8))

    def check(self) -> None:
        """Raise InputError for a value out of its range, or if there is nothing to minimise."""
        ranges = {"decode_every": (1, MOST_IMAGES), "turns": (1, MOST_IMAGES), "visits": (1, MOST_STEPS)}
        check_numbers(self, "", **ranges, closeness=(0, 1), ramp=(0, math.inf), weaker=(0, 1))
        for term in self.terms:
            check_numbers(term, "of a term: ")
        for attack in self.attacks:
            check_eps(attack.eps)
            check_numbers(attack, "of an attack: ", share=(0, math.inf), steps=(0, MOST_STEPS))
            if attack.aim != "noise" and attack.steps == 0 and not (attack.goes_on and self.visits > 1):
                raise InputError(f"an attack with the aim {attack.aim} takes no steps, so it is only noise; give it steps")
        on = {term.on for term in self.terms if term.weight}
        if not on - (set() if self.attacks else {"attacked"}) and not self.closeness:
            raise InputError("the objective has no term with a weight: there is nothing to minimise")


@dataclass(frozen=True)
class HardenConfig:
    """Settings of one run.

    - `steps` is the number of optimiser steps.
    - `batch_size` is the number of images in an optimiser step, over all processes.
    - `micro_batch` is the number of images at once in one process; gradients of the rest are accumulated. 0 takes as many as
      fit in the memory that is free. It is halved when memory runs out.
    - `resolution` is the side of the random crops in pixels.
    - `learning_rate` is the peak of a cosine after `warmup` steps, for AdamW with `weight_decay`.
    - `clip` is the largest norm of the gradient.
    - `ema` is the decay of the averaged weights, which are the result.
    - `features` is the network of the perceptual distance, in scores and in terms, or "none".
    - `precision` is as in `make_accelerator`.
    - `gradient_checkpointing` computes activations again instead of keeping them: for less memory, in about a third more time.
      "auto" does so where not one image fits without.
    - `checkpoint_every` and `snapshot_every` are in steps. Snapshots are encoder files that are kept, and 0 writes none.
    - `held_out` is the number of photographs that are set apart for the scores.
    - `workers` is the number of processes that read images.
    """

    steps: int = 20000
    batch_size: int = 16
    micro_batch: int = 0
    resolution: int = 256
    learning_rate: float = 2e-4
    warmup: int = 50
    weight_decay: float = 0.0
    clip: float = 1.0
    ema: float = 0.998
    seed: int = 0
    features: Literal["efficientnet-lite0", "lpips-alex", "lpips-vgg", "none"] = "efficientnet-lite0"
    precision: Precision = "auto"
    gradient_checkpointing: Literal["auto", True, False] = "auto"
    checkpoint_every: int = 200
    snapshot_every: int = 0
    held_out: int = 32
    workers: int = 4
    objective: Objective = field(default_factory=Objective)

    @property
    def places(self) -> int:
        """The number of batches that take turns."""
        return max(1, self.objective.turns // self.batch_size)

    def rate(self, step: int) -> float:
        """The learning rate at a step: a linear warm-up, then half a cosine to zero."""
        return self.learning_rate * warm_cosine(step, self.steps, self.warmup)

    def check(self) -> HardenConfig:
        """Return self. Raises InputError for a value out of its range or for settings that contradict each other."""
        many, steps = (1, MOST_IMAGES), (1, MOST_STEPS)
        ranges = {"steps": steps, "checkpoint_every": steps, "snapshot_every": (0, MOST_STEPS), "warmup": (0, MOST_STEPS)}
        ranges |= {"batch_size": many, "held_out": many, "micro_batch": (0, MOST_IMAGES), "workers": (0, 1024)}
        ranges |= {"resolution": (1, MOST_PIXELS), "seed": (0, MOST_SEED), "clip": (0, math.inf), "weight_decay": (0, math.inf)}
        check_numbers(self, "", **ranges, ema=(0, 1), learning_rate=(0, 1000))
        if self.learning_rate == 0:
            raise InputError(f"learning_rate must be above 0, got {self.learning_rate}")
        self.objective.check()
        if self.features == "none" and self.objective.uses_features:
            raise InputError("the objective has a perceptual term, which needs a network: features must not be none")
        return self

    def changed(self, eps: float | None = None, closeness: float | None = None, **changes: object) -> HardenConfig:
        """A copy with single settings changed. `eps` is the radius of all inner attacks, in [0,1] units.

        Raises InputError as `check` does.
        """
        objective = self.objective
        if eps is not None:
            if not objective.attacks:
                raise InputError("the objective has no attacks, so eps does nothing; leave it out")
            attacks = tuple(dataclasses.replace(attack, eps=eps) for attack in objective.attacks)
            objective = dataclasses.replace(objective, attacks=attacks)
        if closeness is not None:
            objective = dataclasses.replace(objective, closeness=closeness)
        values = asdict(self) | {"objective": asdict(objective)} | changes
        return from_dict(HardenConfig, values, "settings").check()


PRESETS: dict[str, HardenConfig] = {
    # A GPU, 256 to 512-pixel photographs.
    "default": HardenConfig(),
    # Two cores, an encoder of TAESD's size, photographs of about 128 pixels: half an hour. In so short a run a tight bound on
    # clean latents costs most of the robustness, and weak attacks at its beginning cost steps.
    "cpu": HardenConfig(
        steps=5000, batch_size=8, resolution=96, checkpoint_every=100, workers=0, objective=Objective(closeness=0.14, ramp=0.0)
    ),
}

# Objectives for any preset: the default, and ablations of it.
OBJECTIVES: dict[str, Objective] = {
    "srl": Objective(),
    # Lee et al. 2025 as published: reconstructions of attacked images, a perceptual term in the inner attack too, originality
    # on clean images. Their ε, steps and weights are not public.
    "srl-paper": Objective(
        terms=(Term("image", "attacked", 1.0), Term("features", "attacked", 0.01), Term("latent", "clean", 0.1)),
        decode_every=1,
        attacks=(InnerAttack("reconstruction", eps=8 / 255, steps=2, step_size=0.75, perceptual=0.01),),
        closeness=0.0,
        ramp=0.0,
        turns=1,
        visits=1,
        hold_variance=False,
    ),
    # Schlarmann et al. 2024 (arXiv 2402.12336): attacked latents back to the original ones, nothing else.
    "fare": Objective(
        terms=(Term("latent", "attacked", 1.0),),
        attacks=(InnerAttack("away", eps=8 / 255, steps=10, step_size=0.25),),
        closeness=0.0,
        ramp=0.0,
        turns=1,
        visits=1,
        hold_variance=False,
    ),
    "noise": Objective(attacks=(InnerAttack("noise"),)),
    "none": Objective(terms=(Term("shift", "clean", 1.0), Term("image", "clean", 10.0)), attacks=(), closeness=0.0),
}


def preset(name: str, objective: str = "srl", **changes: Any) -> HardenConfig:
    """The preset `name` with one of OBJECTIVES, and with single settings changed.

    An objective that bounds clean latents takes the preset's `closeness` and `ramp`. Raises InputError for an unknown name.
    """
    for kind, table, key in (("preset", PRESETS, name), ("objective", OBJECTIVES, objective)):
        if key not in table:
            raise unknown(f"unknown {kind}", key, table)
    config, chosen = PRESETS[name], OBJECTIVES[objective]
    if chosen.closeness:
        chosen = dataclasses.replace(chosen, closeness=config.objective.closeness, ramp=config.objective.ramp)
    return dataclasses.replace(config, objective=chosen).changed(**changes)
