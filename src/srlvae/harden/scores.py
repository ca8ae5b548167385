"""Scores on the photographs that a run sets apart: the progress bar's two, and the table of before and after."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch

from srlvae.attacks.latent import latent_objective
from srlvae.attacks.pgd import Objective, pgd
from srlvae.attacks.photoguard import photoguard_encoder_objective
from srlvae.attacks.pid import variance_objective
from srlvae.attacks.reconstruction import reconstruction_objective
from srlvae.images import Images
from srlvae.metrics.features import Features
from srlvae.metrics.pairwise import feature_distance, psnr, squared_shift
from srlvae.rng import generators
from srlvae.vae import VAE, Latents

# One setting for every run, so that model cards can be compared: 10 steps of a fifth of the radius.
EPS, STEPS, AT_ONCE = 15 / 255, 10, 8


@dataclass(frozen=True)
class Scores:
    """Means over the photographs, for one encoder E beside the original E₀.

    psnr: decibels of D(E(x′)) against the clean x. shift: ‖E(x′) − E₀(x)‖ / ‖E₀(x)‖. deviation: root mean square of the
    posterior's standard deviation. features: distance of D(E(x)) and x by the run's feature network. None where there is no
    posterior, or no network. transfer: under attacks made on E₀; white_box: on E.
    """

    psnr_clean: float
    features_clean: float | None
    shift_clean: float
    deviation_clean: float | None
    psnr_transfer: float
    psnr_white_box: float
    away_transfer: float
    away_white_box: float
    zero_transfer: float
    zero_white_box: float
    deviation_white_box: float | None


@dataclass(frozen=True)
class Attacked:
    """The photographs under an attack on reconstructions, on latents, one that pulls latents to zero, and on the variance."""

    reconstruction: Images
    away: Images
    zero: Images
    variance: Images | None


def scores(original: VAE, hardened: VAE, x: Images, seed: int, features: Features | None) -> dict:
    """The scores of the original and of `hardened` on the photographs `x`, as plain data."""
    latents = torch.cat([original.mean(part).detach() for part in x.split(AT_ONCE)])
    transfer, white_box = attack_all(original, x, latents, seed), attack_all(hardened, x, latents, seed)
    return {
        "photographs": len(x),
        "original": asdict(score(original, x, latents, transfer, transfer, features)),
        "hardened": asdict(score(hardened, x, latents, transfer, white_box, features)),
    }


def attack_all(vae: VAE, x: Images, latents: Latents, seed: int) -> Attacked:
    """The attacks of the table on `vae`."""
    return Attacked(
        attack_reconstruction(vae, x, seed),
        attack_away(vae, x, latents, seed),
        _attack(lambda rows: photoguard_encoder_objective(vae), x, seed),
        _attack(lambda rows: variance_objective(vae), x, seed) if vae.has_posterior else None,
    )


def attack_reconstruction(vae: VAE, x: Images, seed: int) -> Images:
    return _attack(lambda rows: reconstruction_objective(vae, x[rows]), x, seed)


def attack_away(vae: VAE, x: Images, latents: Latents, seed: int, steps: int = STEPS) -> Images:
    return _attack(lambda rows: latent_objective(vae, latents[rows]), x, seed, steps)


def _attack(objective, x: Images, seed: int, steps: int = STEPS) -> Images:
    """`x` under the attack that minimises `objective(rows)`, some images at a time."""

    def part(rows: slice) -> Images:
        made: Objective = objective(rows)
        draws = generators(seed, range(rows.start, min(rows.stop, len(x))))
        return pgd(x[rows], made, eps=EPS, steps=steps, step_size=2 * EPS / steps, generators=draws)

    return torch.cat([part(slice(start, start + AT_ONCE)) for start in range(0, len(x), AT_ONCE)])


@torch.no_grad()
def score(vae: VAE, x: Images, latents: Latents, transfer: Attacked, white_box: Attacked, features: Features | None) -> Scores:
    """latents: the original's of `x`. transfer: attacked images made on the original; white_box: made on `vae`."""
    clean = torch.cat([vae.reconstruct(part) for part in x.split(AT_ONCE)])

    def decibels(images: Images) -> float:
        pairs = zip(images.split(AT_ONCE), x.split(AT_ONCE), strict=True)
        return torch.cat([psnr(vae.reconstruct(attacked), part) for attacked, part in pairs]).mean().item()

    def deviation(images: Images | None) -> float | None:
        if images is None:
            return None
        variances = [vae.posterior(part)[1].exp().mean((1, 2, 3)) for part in images.split(AT_ONCE)]
        return torch.cat(variances).mean().sqrt().item()

    return Scores(
        psnr_clean=psnr(clean, x).mean().item(),
        features_clean=_distance(features, clean, x) if features else None,
        shift_clean=shift(vae, x, latents),
        deviation_clean=deviation(x if vae.has_posterior else None),
        psnr_transfer=decibels(transfer.reconstruction),
        psnr_white_box=decibels(white_box.reconstruction),
        away_transfer=shift(vae, transfer.away, latents),
        away_white_box=shift(vae, white_box.away, latents),
        zero_transfer=shift(vae, transfer.zero, latents),
        zero_white_box=shift(vae, white_box.zero, latents),
        deviation_white_box=deviation(white_box.variance),
    )


def _distance(features: Features, y: Images, x: Images) -> float:
    pairs = zip(y.split(AT_ONCE), x.split(AT_ONCE), strict=True)
    return torch.cat([feature_distance(features.columns(a), features.columns(b)) for a, b in pairs]).mean().item()


@torch.no_grad()
def shift(vae: VAE, images: Images, latents: Latents) -> float:
    """How far the latents of `images` lie from `latents`, relative to the latter's norm; a mean over images."""
    moved = torch.cat([vae.mean(part) for part in images.split(AT_ONCE)])
    return squared_shift(moved, latents).sqrt().mean().item()


def quick_score(original: VAE, vae: VAE, x: Images, seed: int) -> tuple[float, float]:
    """Shifts of clean latents and under a short white-box attack, for the progress bar."""
    latents = original.mean(x).detach()
    return shift(vae, x, latents), shift(vae, attack_away(vae, x, latents, seed, steps=5), latents)
