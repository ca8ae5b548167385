"""What an attack knows of a defence; and the first kind of it, a purifier that it goes through."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import torch

from srlvae.attacks.engine.pgd import Loop, View
from srlvae.images import Images
from srlvae.rng import Generators


@runtime_checkable
class Knowledge(Protocol):
    """What an attacker knows of a defence."""

    def settings(self) -> Mapping[str, Any]:
        """What the attacked images depend on by it, as it is written beside them."""
        ...

    def used(self, loop: Loop, x: Images, generators: Generators) -> Loop:
        """The loop that makes use of it, for attacks on images `b 3 h w` in [0,1]."""
        ...


@dataclass(frozen=True)
class Through:
    """How an attack goes through a purifier that it knows: forward as the purifier is, backward as if it were the identity.

    Athalye et al. 2018 (arXiv 1802.00420), section 4.1: the straight-through estimate. A purifier that draws is drawn anew at
    every evaluation, of which a step takes the mean of `draws`: the expectation over transformations.

    - about: the name and the settings, for records.
    - run: the purifier, `(x, generators) → x`.
    """

    about: Mapping[str, Any]
    run: Callable[[Images, Generators], Images]
    draws: int = 1

    def settings(self) -> Mapping[str, Any]:
        """What the attacked images depend on by it."""
        return {"through": dict(self.about), "draws": self.draws}

    def used(self, loop: Loop, x: Images, generators: Generators) -> Loop:
        """The loop behind the purifier. Nothing is compared there, so there is nothing to choose among several starts by."""
        return replace(loop, view=self.view(generators), repeats=max(loop.repeats, self.draws), restarts=1)

    def view(self, generators: Generators) -> View:
        """What an objective sees of images."""

        def seen(x: Images) -> Images:
            with torch.no_grad():
                purified = self.run(x.detach(), generators)
            return x + (purified.to(x) - x).detach()

        return seen
