"""The attacks by name. To add one: a file with its objective and its function, and a line here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from srlvae.attacks.latent import latent
from srlvae.attacks.pgd import Images, Objective, pgd
from srlvae.attacks.photoguard import photoguard_encoder
from srlvae.attacks.reconstruction import reconstruction

__all__ = ["ATTACKS", "Attack", "Images", "Objective", "latent", "pgd", "photoguard_encoder", "reconstruction"]


@dataclass(frozen=True)
class Attack:
    """An attack and its default setting; eps and step_size in [0,1] units."""

    run: Callable[..., Images]
    paper: str
    eps: float
    steps: int
    step_size: float


ATTACKS: dict[str, Attack] = {
    "reconstruction": Attack(reconstruction, "SRL-VAE's inner attack, arXiv 2504.17219", 15 / 255, 40, 2 / 255),
    "latent": Attack(latent, "untargeted latent shift, as in FARE, arXiv 2402.12336", 8 / 255, 40, 1 / 255),
    "photoguard-encoder": Attack(photoguard_encoder, "PhotoGuard, arXiv 2302.06588", 16 / 255, 200, 2 / 255),
}
