"""The two steps of SRL-VAE and their ablations: *perturb* (inner maximisation), then *smooth and keep* (outer loss).

Notation as in Lee et al. 2025 (arXiv 2504.17219): E the encoder in training, E₀ the original, D the frozen decoder.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from srlvae.attacks.latent import latent_objective
from srlvae.attacks.pgd import Images, pgd
from srlvae.attacks.reconstruction import reconstruction_objective
from srlvae.metrics.features import Features
from srlvae.metrics.pairwise import detail, detail_distance, feature_distance
from srlvae.rng import Generators, uniform_like
from srlvae.vae import VAE, Latents

Inner = Literal["reconstruction", "latent", "both", "noise", "none"]


@dataclass(frozen=True)
class ObjectiveConfig:
    """What is minimised. Weights of zero leave a term out, and the passes that only it needs.

    inner: the attack of the inner step; `both` attacks one half of a batch on its reconstruction, the other on its latent.
    eps, latent_eps: radius of the inner attack on reconstructions and of that on latents, in [0,1] units; steps, step_size: of
    the inner loop, the step in units of the radius.
    inner_perceptual: λ inside the inner attack on reconstructions; zero saves a pass through the feature network a step.
    attacked, clean: weight of the reconstruction loss MSE + perceptual · P on attacked and on clean images.
    detail: weight of the distance of local sharpness on clean images, which keeps the squared error from asking for blur.
    perceptual, perceptual_attacked: λ, the weight of the feature distance P beside the squared error, for each of the two.
    stages: how many of the feature network's stages P compares, fine to coarse; all of LPIPS's are LPIPS, fewer are not.
    originality_clean, originality_attacked: weights of ‖E(x) − E₀(x)‖² and ‖E(x+δ) − E₀(x)‖², means over the latent.
    """

    inner: Inner = "both"
    eps: float = 14 / 255
    latent_eps: float = 8 / 255
    steps: int = 2
    step_size: float = 0.75
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
        on_attacked = self.inner != "none" and bool(self.attacked or self.originality_attacked)
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


@torch.no_grad()
def prepare(x: Images, original: VAE, features: Features | None, stages: int | None = None) -> Clean:
    return Clean(x, original.mean(x), detail(x), features.columns(x, stages) if features else None)


def perturb(vae: VAE, clean: Clean, features: Features | None, config: ObjectiveConfig, generators: Generators) -> Images:
    """The attacked images of the inner step, image i from generator i."""
    x = clean.x
    if config.inner == "none":
        return x
    if config.inner == "noise":
        return (x + config.eps * uniform_like(x, generators)).clamp(0, 1)
    # Every other image, so that any even slice of a batch holds as many of each kind.
    on_reconstruction = {"reconstruction": slice(None), "latent": slice(0, 0), "both": slice(0, None, 2)}[config.inner]
    on_latent = {"reconstruction": slice(0, 0), "latent": slice(None), "both": slice(1, None, 2)}[config.inner]
    attacked = x.clone()
    columns = [c[on_reconstruction] for c in clean.columns] if clean.columns else None
    on_x = reconstruction_objective(vae, x[on_reconstruction], features, config.inner_perceptual, columns)
    for part, objective, eps in (
        (on_reconstruction, on_x, config.eps),
        (on_latent, latent_objective(vae, clean.latents[on_latent]), config.latent_eps),
    ):
        if len(x[part]):
            attacked[part] = pgd(
                x[part],
                objective,
                eps=eps,
                steps=config.steps,
                step_size=config.step_size * eps,
                generators=generators[part],
                keep_best=False,
            )
    return attacked


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
