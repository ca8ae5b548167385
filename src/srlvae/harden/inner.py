"""The inner step: the attacks whose perturbations the encoder is trained on.

A batch is kept for several steps. Perturbations made on the encoder in training go on from where they were, along the gradient
that the outer step computes anyway (Shafahi et al. 2019, arXiv 1904.12843): they get stronger at no cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from srlvae.attacks.engine.ball import Ball
from srlvae.attacks.engine.pgd import Objective, pgd, project
from srlvae.attacks.papers.reconstruction import reconstruction_objective
from srlvae.devices import onto
from srlvae.harden.terms import CleanBatch
from srlvae.images import Images
from srlvae.models.vae import VAE, Latents
from srlvae.rng import Generators, generators, uniform_like

# Turns by the golden ratio: any few neighbours in a run share the attacks about as all images do. Strengths turn by another
# ratio, so that every attack comes in all of them.
GOLDEN, SILVER = (5**0.5 - 1) / 2, 2**0.5 - 1


@dataclass(frozen=True)
class InnerAttack:
    """One attack of the inner step.

    - aim: `away` moves the latent as far from the original's as it gets. `target` moves it to zero (PhotoGuard) or to another
      picture's (Mist, Glaze, Nightshade). `reconstruction` makes the decoded image as unlike the photograph as it gets. `noise`
      is uniform noise.
    - on: the encoder in training, or the original one, as attackers do who know the public weights alone.
    - share: of the images, relative to the other attacks' shares.
    - eps: ℓ∞ radius in [0,1] units.
    - steps: from a random start, when a batch is new.
    - step_size: in units of the radius.
    - perceptual: weight of the feature distance in `reconstruction`.
    """

    aim: Literal["away", "target", "reconstruction", "noise"] = "away"
    on: Literal["training", "original"] = "training"
    share: float = 1.0
    eps: float = 16 / 255
    steps: int = 0
    step_size: float = 0.25
    perceptual: float = 0.0

    @property
    def goes_on(self) -> bool:
        """Whether later steps move the perturbations along the gradient of the outer loss."""
        return self.on == "training" and self.aim != "noise"


def choose_attacks(attacks: Sequence[InnerAttack], numbers: Sequence[int]) -> list[int]:
    """Choose the attack of each image by its number in the run, so that it is the same however a batch is cut up."""
    bounds = torch.tensor([attack.share for attack in attacks], dtype=torch.float64).cumsum(0)
    places = torch.tensor(numbers, dtype=torch.float64).mul(GOLDEN).frac() * bounds[-1]
    return torch.searchsorted(bounds, places, right=True).clamp(max=len(attacks) - 1).tolist()


def strengths(weaker: float, numbers: Sequence[int]) -> Float[Tensor, "b 1 1 1"]:
    """The share of the radius that each image's perturbation has: 1, or for the share `weaker` of the images a uniform one.

    It follows from the image's number in the run, as its attack does.
    """
    turns = torch.tensor(numbers, dtype=torch.float64).mul(SILVER).frac()
    return (turns / weaker if weaker else torch.ones_like(turns)).clamp(max=1).float()[:, None, None, None]


def perturb(
    vae: VAE,
    clean: CleanBatch,
    attacks: Sequence[InnerAttack],
    numbers: Sequence[int],
    seed: int,
    radius: float = 1.0,
    weaker: float = 0.0,
) -> Images:
    """Make perturbations `b 3 h w` of new images, each by its attack. Every attack's `eps` is multiplied by `radius`.

    Those that are `weaker` are made at the whole radius and then scaled down; see `strengths`.
    """
    delta = torch.zeros_like(clean.x)
    if not attacks:
        return delta
    kinds = torch.tensor(choose_attacks(attacks, numbers), device=clean.x.device)
    for kind, attack in enumerate(attacks):
        own = (kinds == kind).nonzero()[:, 0]
        if len(own):
            draws = generators(seed, [numbers[i] for i in own.tolist()])
            delta[own] = _attack(attack, vae, clean.part(own), draws, radius * attack.eps)
    return delta * strengths(weaker, numbers).to(delta)


def _attack(attack: InnerAttack, vae: VAE, clean: CleanBatch, draws: Generators, eps: float) -> Images:
    if attack.steps == 0 or attack.aim == "noise":
        return project(eps * uniform_like(clean.x, draws), clean.x, eps, "linf")
    attacked = clean.original if attack.on == "original" else vae
    objective = _objective(attack, attacked, clean, draws)
    ball = Ball(eps, attack.steps, attack.step_size * eps)
    return pgd(clean.x, objective, ball, generators=draws, keep_best=False) - clean.x


def _objective(attack: InnerAttack, vae: VAE, clean: CleanBatch, draws: Generators) -> Objective:
    if attack.aim == "reconstruction":
        columns = clean.columns if attack.perceptual else None
        return reconstruction_objective(vae, clean.x, clean.network, attack.perceptual, columns)
    goals, sign = (targets(clean, draws), 1.0) if attack.aim == "target" else (clean.latents, -1.0)
    return lambda adversarial: sign * (vae.mean(adversarial) - goals).flatten(1).norm(dim=1)


def targets(clean: CleanBatch, draws: Generators) -> Latents:
    """The latents that attacks with a target aim at: zero or another picture's, by a throw of each image's generator."""
    throws = torch.tensor([int(torch.randint(2, (), generator=draw, device=draw.device)) for draw in draws])
    return clean.mirrored * throws.to(clean.x)[:, None, None, None]


def go_on(
    delta: Images,
    gradient: Tensor,
    clean: CleanBatch,
    attacks: Sequence[InnerAttack],
    numbers: Sequence[int],
    radius: float,
    weaker: float = 0.0,
) -> Images:
    """Move perturbations one step up the gradient of the loss, if their attack goes on, and into the present ball."""
    own = [attacks[kind] for kind in choose_attacks(attacks, numbers)]
    numbers_of = torch.tensor([[radius * attack.eps, attack.step_size * attack.goes_on] for attack in own], dtype=delta.dtype)
    numbers_of[:, 0] *= strengths(weaker, numbers).flatten().to(delta.dtype)
    eps, share = onto(numbers_of, delta.device).T[:, :, None, None, None]
    size = share * eps
    return _into_ball(delta + size * gradient.sign().nan_to_num(), clean.x, eps)


def _into_ball(delta: Images, x: Images, eps: Tensor) -> Images:
    return (x + delta.clamp(-eps, eps)).clamp(0, 1) - x
