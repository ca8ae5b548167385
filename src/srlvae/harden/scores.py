"""Scores on the photographs that a run sets apart: the progress bar's two, and the table of before and after."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from srlvae.attacks.latent import latent
from srlvae.attacks.pgd import Images
from srlvae.attacks.reconstruction import reconstruction
from srlvae.metrics.features import Features
from srlvae.metrics.pairwise import feature_distance, psnr
from srlvae.rng import generators
from srlvae.vae import VAE

# One setting for every run, so that model cards can be compared: 10 steps of a fifth of the radius.
EPS_RECONSTRUCTION, EPS_LATENT, STEPS = 15 / 255, 8 / 255, 10


@dataclass(frozen=True)
class Scores:
    """Means over the photographs. Decibels are of D(E(x′)) against the clean x; shifts ‖E(x′) − E(x)‖ are root mean squares."""

    psnr_clean: float
    features_clean: float | None
    psnr_transfer: float
    psnr_white_box: float
    shift_transfer: float
    shift_white_box: float


@dataclass(frozen=True)
class Attacked:
    reconstruction: Images
    latent: Images


def attack_both(vae: VAE, x: Images, seed: int, steps: int = STEPS, chunk: int = 8) -> Attacked:
    """The two attacks of the table on `vae`, `chunk` images at a time."""
    made: list[tuple[Images, Images]] = []
    for start in range(0, len(x), chunk):
        part = x[start : start + chunk]
        numbers = range(start, start + len(part))

        def options(eps: float, numbers=numbers) -> dict:
            draws = generators(seed, numbers)
            return {"vae": vae, "eps": eps, "steps": steps, "step_size": eps / 5, "generators": draws}

        made.append((reconstruction(part, **options(EPS_RECONSTRUCTION)), latent(part, **options(EPS_LATENT))))
    return Attacked(*(torch.cat(kind) for kind in zip(*made, strict=True)))


@torch.no_grad()
def score(vae: VAE, x: Images, transfer: Attacked, white_box: Attacked, features: Features | None) -> Scores:
    """transfer: attacked images made on the original VAE; white_box: made on `vae`."""
    clean = torch.cat([vae.reconstruct(part) for part in x.split(8)])
    distance = feature_distance(features.columns(clean), features.columns(x)).mean().item() if features else None
    latents = torch.cat([vae.mean(part) for part in x.split(8)])

    def decibels(attacked: Images) -> float:
        return (
            torch.cat([psnr(vae.reconstruct(a), c) for a, c in zip(attacked.split(8), x.split(8), strict=True)]).mean().item()
        )

    def shift(attacked: Images) -> float:
        moved = torch.cat([vae.mean(part) for part in attacked.split(8)])
        return (moved - latents).square().mean((1, 2, 3)).sqrt().mean().item()

    return Scores(
        psnr_clean=psnr(clean, x).mean().item(),
        features_clean=distance,
        psnr_transfer=decibels(transfer.reconstruction),
        psnr_white_box=decibels(white_box.reconstruction),
        shift_transfer=shift(transfer.latent),
        shift_white_box=shift(white_box.latent),
    )


def quick_score(vae: VAE, x: Images, seed: int) -> tuple[float, float]:
    """Decibels on clean images and under a short white-box attack, for the progress bar."""
    x, eps = x[:8], EPS_RECONSTRUCTION
    draws = generators(seed, range(len(x)))
    attacked = reconstruction(x, vae=vae, eps=eps, steps=5, step_size=eps / 3, generators=draws)
    with torch.no_grad():
        return psnr(vae.reconstruct(x), x).mean().item(), psnr(vae.reconstruct(attacked), x).mean().item()
