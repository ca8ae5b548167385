"""The two steps of SRL-VAE and their ablations: *perturb* (inner maximisation), then *smooth and keep* (outer loss).

Notation as in Lee et al. 2025 (arXiv 2504.17219): E the encoder in training, E₀ the original, D the frozen decoder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from srlvae.attacks.latent import latent_objective
from srlvae.attacks.pgd import Images, Objective, pgd
from srlvae.attacks.photoguard import photoguard_encoder_objective
from srlvae.attacks.reconstruction import reconstruction_objective
from srlvae.metrics.features import Features
from srlvae.metrics.pairwise import detail, detail_distance, feature_distance
from srlvae.rng import Generators, generators, uniform_like
from srlvae.vae import VAE, Latents

Inner = Literal["reconstruction", "latent", "targeted", "transfer", "noise"]
# How far the steps of the transfer attack reach together, in units of its radius.
TRAVEL = 2.4


@dataclass(frozen=True)
class ObjectiveConfig:
    """What is minimised. Weights of zero leave a term out, and the passes that only it needs.

    inner: the attacks of the inner step, which images take turns at; none where empty. `reconstruction` and `latent` move the
    reconstruction and the latent as far as they can, `targeted` pulls the latent to a target or away, `transfer` does that to
    the original encoder, as attacks that know the public weights do.
    eps: radius of the inner attacks in [0,1] units, but for `latent_eps` of that on latents; steps, step_size: of the inner
    loop, the step in units of the radius; transfer_steps: of `transfer`, which needs no gradient of the encoder in training.
    inner_perceptual: λ inside the inner attack on reconstructions; zero saves a pass through the feature network a step.
    attacked, clean: weight of the reconstruction loss MSE + perceptual · P on attacked and on clean images.
    detail: weight of the distance of local sharpness on clean images, which keeps the squared error from asking for blur.
    perceptual, perceptual_attacked: λ, the weight of the feature distance P beside the squared error, for each of the two.
    stages: how many of the feature network's stages P compares, fine to coarse; all of LPIPS's are LPIPS, fewer are not.
    originality_clean, originality_attacked: weights of ‖E(x) − E₀(x)‖² and ‖E(x+δ) − E₀(x)‖², means over the latent.
    """

    inner: tuple[Inner, ...] = ("transfer", "reconstruction", "transfer", "latent")
    eps: float = 14 / 255
    latent_eps: float = 8 / 255
    steps: int = 2
    step_size: float = 0.75
    transfer_steps: int = 6
    inner_perceptual: float = 0.0
    attacked: float = 6.0
    clean: float = 1.0
    perceptual: float = 0.05
    perceptual_attacked: float = 0.0
    stages: int = 3
    detail: float = 0.002
    originality_clean: float = 0.03
    originality_attacked: float = 0.2

    @property
    def has_terms(self) -> bool:
        on_attacked = bool(self.inner) and bool(self.attacked or self.originality_attacked)
        return on_attacked or bool(self.clean or self.detail or self.originality_clean)

    @property
    def uses_features(self) -> bool:
        return bool(self.inner_perceptual or self.clean * self.perceptual or self.attacked * self.perceptual_attacked)


@dataclass(frozen=True)
class Clean:
    """What is known of a batch of clean images before the encoder in training sees it, computed once."""

    x: Images
    latents: Latents
    detail: Float[Tensor, "b rows columns"]
    columns: list[Tensor] | None

    def part(self, own: Tensor) -> Clean:
        columns = [column[own] for column in self.columns] if self.columns else None
        return Clean(self.x[own], self.latents[own], self.detail[own], columns)


@torch.no_grad()
def prepare(x: Images, original: VAE, features: Features | None, stages: int | None = None) -> Clean:
    return Clean(x, original.mean(x), detail(x), features.columns(x, stages) if features else None)


def perturb(
    vae: VAE,
    original: VAE,
    clean: Clean,
    features: Features | None,
    config: ObjectiveConfig,
    numbers: Sequence[int],
    seed: int,
) -> Images:
    """The attacked images of the inner step. Image `numbers[i]` of the run gets the attack whose turn it is by that number, so
    that it is the same however a batch is cut up."""
    if not config.inner:
        return clean.x
    attacked, turns = clean.x.clone(), torch.tensor(numbers, device=clean.x.device) % len(config.inner)
    for turn, kind in enumerate(config.inner):
        own = (turns == turn).nonzero()[:, 0]
        if len(own):
            draws = generators(seed, [numbers[i] for i in own.tolist()], clean.x.device)
            attacked[own] = attack(kind, vae, original, clean.part(own), features, config, draws)
    return attacked


def attack(
    kind: Inner,
    vae: VAE,
    original: VAE,
    clean: Clean,
    features: Features | None,
    config: ObjectiveConfig,
    draws: Generators,
) -> Images:
    """All images of `clean` under one kind of inner attack."""
    x, eps, steps, step_size = clean.x, config.eps, config.steps, config.step_size
    if kind == "noise":
        return (x + eps * uniform_like(x, draws)).clamp(0, 1)
    if kind == "reconstruction":
        objective = reconstruction_objective(vae, x, features, config.inner_perceptual, clean.columns)
    elif kind == "latent":
        objective, eps = latent_objective(vae, clean.latents), config.latent_eps
    elif kind == "targeted":
        objective = pull(vae, *targets(original, clean, draws))
    else:
        objective, steps = pull(original, *targets(original, clean, draws)), config.transfer_steps
        step_size = TRAVEL / steps
    settings = {"eps": eps, "steps": steps, "step_size": step_size * eps, "generators": draws}
    return pgd(x, objective, **settings, keep_best=False)


def pull(vae: VAE, goals: Latents, signs: Float[Tensor, " b"]) -> Objective:
    """x′ ↦ sign · ‖E(x′) − goal‖₂: towards the goal with sign 1, away from it with −1."""
    distance = photoguard_encoder_objective(vae, goals)
    return lambda adversarial: signs * distance(adversarial)


@torch.no_grad()
def targets(original: VAE, clean: Clean, draws: Generators) -> tuple[Latents, Float[Tensor, " b"]]:
    """What published attacks do to latents, by the throw of each image's generator: pull them to nothing (PhotoGuard) or to
    another picture (Mist, Glaze, Nightshade), or push them away from where they were (AdvDM and whatever maximises a loss).

    Goals and signs, see `pull`. The picture is the image upside down, so that no image depends on its neighbours.
    """
    throws = torch.tensor([int(torch.randint(3, (), generator=draw, device=draw.device)) for draw in draws])
    goals, signs = torch.zeros_like(clean.latents), torch.ones(len(throws), device=clean.x.device)
    if (others := (throws == 1).nonzero()[:, 0]).numel():
        goals[others] = original.mean(clean.x[others].flip(2))
    away = throws == 2
    goals[away], signs[away] = clean.latents[away], -1.0
    return goals, signs


def reconstruction_loss(y: Images, clean: Clean, features: Features | None, perceptual: float) -> Float[Tensor, " b"]:
    """MSE(y, x) + perceptual · P(y, x), one number an image; P over the stages that `clean` has."""
    loss = (y - clean.x).square().mean((1, 2, 3))
    if features and perceptual:
        assert clean.columns is not None
        loss = loss + perceptual * feature_distance(features.columns(y, len(clean.columns)), clean.columns)
    return loss


def outer_loss(
    encode, vae: VAE, clean: Clean, attacked: Images, features: Features | None, config: ObjectiveConfig
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss to minimise over the encoder, a mean over images, and its parts for the log.

    encode: images → mean latents, through whatever wraps the encoder for several processes. Both batches go through it in
    one call, and through the decoder in one.
    """
    n, same = len(clean.x), attacked is clean.x
    on_clean, on_attacked = config.clean or config.detail, config.attacked and not same
    batches = ([clean.x] if on_clean or config.originality_clean or same else []) + ([] if same else [attacked])
    latents = encode(torch.cat(batches))
    z_clean, z_attacked = latents[:n], latents[-n:]
    to_decode = ([z_clean] if on_clean else []) + ([z_attacked] if on_attacked else [])
    images = vae.decode(torch.cat(to_decode)) if to_decode else z_clean
    y_clean, y_attacked = images[:n], images[-n:]
    parts: dict[str, Tensor] = {}
    if config.clean:
        parts["clean"] = config.clean * reconstruction_loss(y_clean, clean, features, config.perceptual).mean()
    if config.detail:
        parts["detail"] = config.detail * detail_distance(detail(y_clean.float()), clean.detail).mean()
    if on_attacked:
        attacked_loss = reconstruction_loss(y_attacked, clean, features, config.perceptual_attacked)
        parts["attacked"] = config.attacked * attacked_loss.mean()
    if config.originality_clean:
        parts["originality_clean"] = config.originality_clean * (z_clean - clean.latents).square().mean()
    if config.originality_attacked and not same:
        parts["originality_attacked"] = config.originality_attacked * (z_attacked - clean.latents).square().mean()
    return torch.stack(list(parts.values())).sum(), {name: part.detach() for name, part in parts.items()}
