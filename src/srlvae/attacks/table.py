"""What the table of attacks is made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from inspect import signature
from typing import Any, Literal

from srlvae.attacks.engine.pgd import Images


@dataclass(frozen=True)
class Preset:
    """A published setting. eps: the *effective* ℓ∞ radius in [0,1] units (for norm l2 in `options`: of the image's vector;
    1 is no bound but the box), step_size likewise; options: further arguments; source: where it was published; wants: what
    has to be given with it, `mask` or `target`."""

    eps: float
    steps: int
    step_size: float
    source: str
    options: Mapping[str, Any] = field(default_factory=dict)
    wants: tuple[str, ...] = ()

    def at(self, eps: float) -> Preset:
        """The same at another radius, with the step in the same ratio to it; Adam's, where there is no ball, stays."""
        return replace(self, eps=eps, step_size=self.step_size * (1 if self.eps == 1 else eps / self.eps))


@dataclass(frozen=True)
class Attack:
    """An attack and its published settings, of which the first is the default.

    needs: what `run` takes beside the images, as `vae=` or as `pipeline=`. passes: what a step costs, in forward and backward
    passes of E the encoder, D the decoder, U the UNet (at twice the batch where guided), P the perceptual network. alone: takes
    the images of a batch one after another, so that a batch saves no time. restarts: takes several random starts and keeps
    the best, which means nothing where the objective itself is drawn anew at every call. posterior: attacks
    the log-variance, too, so that the VAE has to have one.
    """

    run: Callable[..., Images]
    paper: str
    needs: Literal["vae", "pipeline"]
    passes: str
    presets: Mapping[str, Preset]
    alone: bool = False
    restarts: bool = False
    posterior: bool = False

    @property
    def default(self) -> Preset:
        return next(iter(self.presets.values()))

    def takes(self, option: str) -> bool:
        return option in signature(self.run).parameters
