"""What an attack is, and a published setting of it; loads nothing that computes."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from inspect import signature
from typing import TYPE_CHECKING, Any, Literal

from srlvae.attacks.engine.ball import Ball

if TYPE_CHECKING:
    from srlvae.images import Images


@dataclass(frozen=True)
class Preset:
    """A published setting of an attack.

    - ball: the budget and the steps. Its radius is the *effective* one, on images in [0,1].
    - source: where the setting was published.
    - options: further arguments of the attack.
    - wants: what the user has to give with it, `mask` or `target`.
    - restarts, repeats: as in `Loop`.
    """

    ball: Ball
    source: str
    options: Mapping[str, Any] = field(default_factory=dict)
    wants: tuple[str, ...] = ()
    restarts: int = 1
    repeats: int = 1


@dataclass(frozen=True)
class Attack:
    """An attack and its published settings, of which the first is the default.

    - function: `file.name` in `papers`.
    - needs: what the attack takes beside the images, as `pipeline=`, or as `vae=`, which may be several.
    - passes: the cost of a step, in forward and backward passes of E the encoder, D the decoder, U the UNet (at twice the batch
      under guidance) and P the perceptual network.
    - alone: networks are held for each image, so the images of a batch are attacked one after another.
    - searches: how many attacks it consists of, which run one after another.
    - restarts: the attack takes several random starts and keeps the best. An objective that draws anew at every call cannot.
    - posterior: the attack aims at the log-variance, too, so the VAE must have one.
    - prompted_target: the prompt only says what the target shows, so that there is none beside a target picture.
    - announced: the gradient goes back through whole denoising steps, whose memory is announced before the attack starts.
    """

    function: str
    paper: str
    needs: Literal["vae", "pipeline"]
    passes: str
    presets: Mapping[str, Preset]
    alone: bool = False
    searches: int = 1
    restarts: bool = False
    posterior: bool = False
    prompted_target: bool = False
    announced: bool = False

    @property
    def run(self) -> Callable[..., Images]:
        """The attack's function, imported when it is first asked for."""
        file, name = self.function.split(".")
        return getattr(importlib.import_module(f"srlvae.attacks.papers.{file}"), name)

    @property
    def default(self) -> Preset:
        """The first of the published settings."""
        return next(iter(self.presets.values()))

    def takes(self, option: str) -> bool:
        """Whether the attack's function has an argument of that name."""
        return option in signature(self.run).parameters
