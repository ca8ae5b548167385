"""What somebody asks of an attack, in words, numbers and files; checked once, when it is asked."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from srlvae.attacks import ATTACKS, Attack, Preset
from srlvae.attacks.engine.ball import Ball
from srlvae.attacks.engine.views import SAMPLING, VIEWS
from srlvae.config import MOST_SEED, MOST_STEPS, check_numbers
from srlvae.errors import InputError, unknown
from srlvae.images import check_eps
from srlvae.precision import settled

# Random draws of a view in a step.
DRAWS = 4


@dataclass(frozen=True)
class Request:
    """An attack by name, and what is wanted other than its default.

    - preset: the name of a published setting. The default is the attack's first.
    - eps, steps, restarts: in place of the preset's. `eps` is in [0,1] units.
    - prompt: what the pipeline is told, or what a target is generated from.
    - target, mask: picture files. Pixels may change where the mask is white.
    - also: a second VAE, on which the objective is added; as `load_vae` takes it.
    - through, draws: the attack sees images through a view in VIEWS, or draws of the posterior (SAMPLING), `draws` a step, by
      default DRAWS.
    - features: the network of a perceptual budget.
    - seed: of random starts and draws.
    - precision: a `Precision`; in another than float32 (no) an image depends a little on the machine.

    Raises InputError for an unknown attack, preset or view, for an option that the attack does not take, and for a bad budget.
    """

    name: str
    preset: str | None = None
    eps: float | None = None
    steps: int | None = None
    restarts: int | None = None
    prompt: str | None = None
    target: Path | None = None
    mask: Path | None = None
    also: str | None = None
    through: str | None = None
    draws: int | None = None
    features: str | None = None
    seed: int = 0
    precision: str = "no"

    def __post_init__(self):
        if self.name not in ATTACKS:
            raise unknown("unknown attack", self.name, ATTACKS)
        if self.preset is not None and self.preset not in self.attack.presets:
            raise unknown(f"{self.name} has no preset", self.preset, self.attack.presets)
        self._check_taken()
        ranges = {"steps": (0, MOST_STEPS), "restarts": (1, MOST_STEPS), "draws": (1, MOST_STEPS), "seed": (0, MOST_SEED)}
        check_numbers(self, "", **ranges)
        settled(self.precision)
        if self.eps is not None:
            _check_budget(self.eps, self.published.ball)

    @property
    def attack(self) -> Attack:
        """The attack of that name."""
        return ATTACKS[self.name]

    @property
    def published(self) -> Preset:
        """The preset as it was published."""
        return self.attack.presets[self.preset] if self.preset else self.attack.default

    @property
    def drawn(self) -> int:
        """The draws of a view in a step."""
        return self.draws or DRAWS

    @cached_property
    def changed(self) -> Preset:
        """The preset with what is wanted in place of its own."""
        published = self.published
        return replace(
            published,
            ball=published.ball.resized(self.eps, self.steps),
            options={**published.options, **({} if self.prompt is None else {"prompt": self.prompt})},
            restarts=published.restarts if self.restarts is None else self.restarts,
        )

    def _check_taken(self) -> None:
        """What is given has to be taken by the attack, and what the preset wants has to be given."""
        for option in ("prompt", "target", "features"):
            if getattr(self, option) is not None and not self.attack.takes(option):
                raise InputError(f"{self.name} takes no {option}")
        if self.features is not None and not self.published.ball.perceptual:
            raise InputError(f"{self.name} with this preset has no perceptual budget to measure; leave out --features")
        if self.attack.prompted_target and self.prompt is not None and self.target is not None:
            raise InputError(f"{self.name} would not look at its prompt, as a target takes its place; give one of the two")
        if self.draws is not None and self.through is None:
            raise InputError("draws are of a view; give --through, or leave out --draws")
        if self.also is not None and self.attack.needs != "vae":
            raise InputError(f"{self.name} attacks a whole pipeline, so it takes one VAE; leave out --also")
        for option in self.published.wants:
            if getattr(self, option) is None:
                raise InputError(f"{self.name} with this preset needs a picture as --{option}")
        if self.through not in (None, SAMPLING, *VIEWS):
            raise unknown("unknown view", self.through, (*VIEWS, SAMPLING))
        if self.through == SAMPLING and not self.attack.takes("sampled"):
            raise InputError(f"{self.name} cannot go through {SAMPLING}")
        if (self.restarts or 1) > 1 and (self.through or not self.attack.restarts):
            raise InputError(
                f"{self.name} draws again at every step or has no random start, so restarts gain nothing; leave out --restarts"
            )


def _check_budget(eps: float, ball: Ball) -> None:
    if ball.norm != "l2":
        check_eps(eps)
    elif not 0 <= eps < math.inf:
        raise InputError(f"eps is {eps:g}; the radius of an ℓ2 ball must be 0 or more")
    # A root mean square may be less, where most levels stay.
    if ball.norm != "rms" and 0 < eps * 255 < 1 - 1e-6:
        raise InputError(f"eps is {eps * 255:g}/255; the levels of a PNG cannot change by less than 1/255")
