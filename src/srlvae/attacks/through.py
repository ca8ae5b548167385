"""An attack through a purifier that it knows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from srlvae.attacks.engine.pgd import View
from srlvae.images import Images
from srlvae.rng import Generators


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

    def view(self, generators: Generators) -> View:
        """What an objective sees of images."""

        def seen(x: Images) -> Images:
            with torch.no_grad():
                purified = self.run(x.detach(), generators)
            return x + (purified.to(x) - x).detach()

        return seen
