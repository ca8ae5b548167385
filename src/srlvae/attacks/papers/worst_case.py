"""Several attacks on the same images, of which each image keeps the one that hurt it most.

As AutoAttack's ensemble does (Croce and Hein 2020, arXiv 2003.01690): a defence is as good as its worst case.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from srlvae.attacks.engine.ball import Ball
from srlvae.attacks.engine.pgd import Loop, Objective
from srlvae.attacks.engine.several import VAEs, summed
from srlvae.attacks.papers.adaptive import adaptive
from srlvae.attacks.papers.latent import latent
from srlvae.attacks.papers.mist import mist_textural
from srlvae.attacks.papers.photoguard import photoguard_encoder
from srlvae.attacks.papers.reconstruction import reconstruction
from srlvae.images import Images
from srlvae.models.vae import VAE
from srlvae.rng import Generators


def harm_of(vae: VAE, x: Images) -> Objective:
    """x′ ↦ MSE(D(E(x′)), x): how far the reconstruction is from the clean image."""
    return lambda adversarial: (vae.reconstruct(adversarial) - x).square().mean((1, 2, 3))


@torch.no_grad()
def keep_worst(candidates: Sequence[Images], harm: Objective) -> tuple[Images, Float[Tensor, "candidates b"]]:
    """Image by image the candidate with the largest `harm`, and the harms of all. A harm that is not finite never wins."""
    harms = torch.stack([harm(candidate) for candidate in candidates])
    winner = harms.nan_to_num(-torch.inf, -torch.inf, -torch.inf).argmax(0)
    return torch.stack(list(candidates))[winner, torch.arange(harms.shape[1])], harms


def worst_case(
    x: Images,
    *,
    vae: VAEs,
    ball: Ball,
    generators: Generators,
    harm: Objective | None = None,
    loop: Loop | None = None,
) -> Images:
    """Attacked images of the ensemble, the worst of each by `harm`: by default the error of the reconstruction.

    Behind a view, a candidate's harm is that of what the view lets through, a mean over the draws of a step.
    `watch` is told of the objective of the first attack alone, since those of several do not compare.
    """
    loop = loop or Loop()
    quiet = replace(loop, watch=lambda value, gradient: loop.counted())
    common: dict[str, Any] = {"vae": vae, "generators": generators}
    candidates = [
        adaptive(x, ball=ball, loop=loop, **common),
        reconstruction(x, ball=ball, loop=quiet, **common),
        latent(x, ball=ball, loop=quiet, **common),
        photoguard_encoder(x, ball=replace(ball, falls=True), loop=quiet, **common),
        # Its objective draws anew at every call, so that restarts would be thrown away.
        mist_textural(x, ball=ball, loop=replace(quiet, restarts=1), **common),
    ]
    total = harm or summed(lambda of: harm_of(of, x), vae)
    return keep_worst(candidates, lambda candidate: loop.value(total, candidate))[0]
