"""Several attacks on the same images, of which each image keeps the one that hurt it most.

As AutoAttack's ensemble does (Croce and Hein 2020, arXiv 2003.01690): a defence is as good as its worst case.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor
from typing_extensions import Unpack

from srlvae.attacks.engine.pgd import Loop, Objective
from srlvae.attacks.papers.adaptive import adaptive
from srlvae.attacks.papers.latent import latent
from srlvae.attacks.papers.mist import mist_textural
from srlvae.attacks.papers.photoguard import photoguard_encoder
from srlvae.attacks.papers.reconstruction import reconstruction
from srlvae.images import Images
from srlvae.models.vae import VAE
from srlvae.rng import Generators

ENSEMBLE: tuple[Callable[..., Images], ...] = (
    partial(adaptive, restarts=1), reconstruction, latent, photoguard_encoder, mist_textural
)  # fmt: skip


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
    vae: VAE,
    eps: float,
    steps: int,
    step_size: float,
    generators: Generators,
    harm: Objective | None = None,
    **loop: Unpack[Loop],
) -> Images:
    """Attacked images of the ensemble, the worst of each by `harm`: by default the error of the reconstruction.

    `watch` is told of the first attack alone, since the objectives of several do not compare.
    """
    quiet: Loop = {**loop, "watch": None}
    settings = {"vae": vae, "eps": eps, "steps": steps, "step_size": step_size, "generators": generators}
    candidates = [attack(x, **settings, **(quiet if i else loop)) for i, attack in enumerate(ENSEMBLE)]
    return keep_worst(candidates, harm or harm_of(vae, x))[0]
