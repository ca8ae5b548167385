"""Scores on the photographs that a run sets apart: the progress bar's two, and the table of before and after."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from srlvae.attacks.engine.ball import Ball
from srlvae.attacks.engine.pgd import Objective, pgd
from srlvae.attacks.papers.latent import latent_objective
from srlvae.attacks.papers.photoguard import photoguard_encoder_objective
from srlvae.attacks.papers.pid import variance_objective
from srlvae.attacks.papers.reconstruction import reconstruction_objective
from srlvae.images import Images
from srlvae.metrics.features import Features
from srlvae.metrics.pairwise import PerImage, feature_distance, psnr, squared_shift
from srlvae.models.vae import VAE, Latents
from srlvae.rng import generators

# One setting for every run, so that model cards can be compared, but for the precision, which each names.
EPS, STEPS = 15 / 255, 10


@dataclass(frozen=True)
class Attacked:
    """Photographs under an attack on reconstructions, on latents, one that pulls latents to zero, and on the variance."""

    reconstruction: Images
    away: Images
    zero: Images
    variance: Images | None


def scores(original: VAE, hardened: VAE, x: Images, seed: int, features: Features | None, at_once: int = 8) -> dict:
    """Measure the original encoder E₀ and the hardened one E on photographs, and return the means as plain data.

    - psnr: decibels of D(E(x′)) against the clean x.
    - shift: ‖E(x′) − E₀(x)‖ / ‖E₀(x)‖.
    - deviation: root mean square of the posterior's standard deviation, if there is one.
    - features: distance of D(E(x)) and x by the network, if one is given.

    `transfer` is under attacks made on E₀, `white_box` under attacks made on E. `at_once` photographs are measured at a time,
    which changes nothing else.
    """
    found: dict[str, list[dict[str, PerImage]]] = {"original": [], "hardened": []}
    for first in range(0, len(x), at_once):
        part = x[first : first + at_once]
        latents = original.mean(part).detach()
        transfer, white_box = (attack_all(vae, part, latents, seed, first) for vae in (original, hardened))
        found["original"].append(measure(original, part, latents, transfer, transfer, features))
        found["hardened"].append(measure(hardened, part, latents, transfer, white_box, features))
    return {"photographs": len(x)} | {name: _mean(parts) for name, parts in found.items()}


def attack_all(vae: VAE, x: Images, latents: Latents, seed: int, first: int) -> Attacked:
    """Make all attacks on `vae`. `latents` are the original's of `x`; `first` is the number of the first photograph."""
    return Attacked(
        attack_reconstruction(vae, x, seed, first),
        attack_away(vae, x, latents, seed, first),
        _attack(photoguard_encoder_objective(vae), x, seed, first),
        _attack(variance_objective(vae), x, seed, first) if vae.has_posterior else None,
    )


def attack_reconstruction(vae: VAE, x: Images, seed: int, first: int = 0) -> Images:
    """Attack the reconstructions of photographs by `vae`. `first` is the number of the first one, for the random starts."""
    return _attack(reconstruction_objective(vae, x), x, seed, first)


def attack_away(vae: VAE, x: Images, latents: Latents, seed: int, first: int = 0, steps: int = STEPS) -> Images:
    """Push the latents of photographs away from `latents`, the original's. `first` is as in `attack_reconstruction`."""
    return _attack(latent_objective(vae, latents), x, seed, first, steps)


def _attack(objective: Objective, x: Images, seed: int, first: int, steps: int = STEPS) -> Images:
    draws = generators(seed, range(first, first + len(x)))
    return pgd(x, objective, Ball.crossed(EPS, steps), generators=draws)


@torch.no_grad()
def measure(
    vae: VAE, x: Images, latents: Latents, transfer: Attacked, white_box: Attacked, features: Features | None
) -> dict[str, PerImage]:
    """The scores of each image, and of the deviation its square. Attacks in `transfer` were made on the original VAE."""
    clean = vae.reconstruct(x)
    found = {
        "psnr_clean": psnr(clean, x),
        "shift_clean": shift(vae, x, latents),
        "psnr_transfer": psnr(vae.reconstruct(transfer.reconstruction), x),
        "psnr_white_box": psnr(vae.reconstruct(white_box.reconstruction), x),
        "away_transfer": shift(vae, transfer.away, latents),
        "away_white_box": shift(vae, white_box.away, latents),
        "zero_transfer": shift(vae, transfer.zero, latents),
        "zero_white_box": shift(vae, white_box.zero, latents),
    }
    if features:
        # In bfloat16 the distance would be rounded by as much as hardening changes it.
        with torch.autocast(x.device.type, enabled=False):
            found["features_clean"] = feature_distance(features.columns(clean), features.columns(x))
    if white_box.variance is not None:
        found["deviation_clean"] = _variance(vae, x)
        found["deviation_white_box"] = _variance(vae, white_box.variance)
    return found


def _mean(parts: list[dict[str, Float[Tensor, " _"]]]) -> dict[str, float]:
    # The last part may have fewer images than the others.
    means = {name: torch.cat([part[name] for part in parts]).mean().item() for name in parts[0]}
    return {name: math.sqrt(value) if name.startswith("deviation") else value for name, value in means.items()}


def _variance(vae: VAE, x: Images) -> PerImage:
    return vae.posterior(x)[1].exp().mean((1, 2, 3))


@torch.no_grad()
def shift(vae: VAE, x: Images, latents: Latents) -> PerImage:
    """How far the latents of `x` lie from `latents`, relative to the latter's norm."""
    return squared_shift(vae.mean(x), latents).sqrt()


def quick_score(original: VAE, vae: VAE, x: Images, seed: int, at_once: int = 8) -> tuple[float, float]:
    """Mean shifts of clean latents and under a short white-box attack, for the progress bar."""
    clean, away = [], []
    for first in range(0, len(x), at_once):
        part = x[first : first + at_once]
        latents = original.mean(part).detach()
        clean.append(shift(vae, part, latents))
        away.append(shift(vae, attack_away(vae, part, latents, seed, first, steps=5), latents))
    return torch.cat(clean).mean().item(), torch.cat(away).mean().item()
