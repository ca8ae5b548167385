"""Training of a learned remover on photographs and what attacks made of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from srlvae.errors import InputError
from srlvae.events import Listener
from srlvae.images import Images
from srlvae.purify.remover import Remover
from srlvae.training.schedule import warm_cosine

# Squares of a step.
Crops = Float[Tensor, "batch 3 side side"]


@dataclass(frozen=True)
class RemoverConfig:
    """Settings of the training of a remover.

    - crop: the side in pixels of the squares that a step sees.
    - learning_rate: the peak; see `warm_cosine`.
    - warmup: in steps.
    - width, depth: of the network; see `Remover`.
    """

    steps: int = 2000
    batch_size: int = 8
    crop: int = 64
    learning_rate: float = 1e-3
    warmup: int = 50
    seed: int = 0
    width: int = 48
    depth: int = 5


def train_remover(
    clean: Images, attacked: Sequence[Tensor], config: RemoverConfig | None = None, listener: Listener | None = None
) -> Remover:
    """Train a remover to minimise ‖r(x + δ) − δ‖² + ‖r(x)‖². What comes out is a function of the images and the settings.

    - clean: photographs `n 3 h w`, which should be none of those that it is judged on.
    - attacked: for each attack what it made of all of these photographs, in the same order.

    The listener hears of each step. Raises InputError for images that do not belong together, if the loss is not finite, and
    if the remover in the end is no better than one that never finds anything.
    """
    config, listener = config or RemoverConfig(), listener or Listener()
    _check(clean, attacked, config)
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        remover = Remover(config.width, config.depth).to(clean.device)
    optimizer = torch.optim.AdamW(remover.parameters(), lr=config.learning_rate, weight_decay=1e-4)
    losses, energies = [], []
    for step in range(config.steps):
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * warm_cosine(step, config.steps, config.warmup)
        x, delta = pairs_at(step, clean, attacked, config)
        loss = remover_loss(remover, x, delta)
        if not loss.isfinite():
            raise InputError(f"the loss is not a number at step {step + 1}; give a lower learning rate")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        energies.append(delta.square().mean().item())
        listener.at("steps", step + 1, config.steps, f"loss {losses[-1]:.3g} of {energies[-1]:.3g}")
    last = slice(-max(1, config.steps // 10), None)
    if sum(losses[last]) >= sum(energies[last]):
        raise InputError("the remover has learnt nothing: it is no better than removing nothing; give more steps")
    return remover.eval().requires_grad_(False)


def remover_loss(remover: Remover, x: Images, delta: Images) -> Tensor:
    """‖r(x + δ) − δ‖² + ‖r(x)‖², means over images and pixels."""
    on_attacked, on_clean = remover(torch.cat([x + delta, x])).chunk(2)
    return (on_attacked - delta).square().mean() + on_clean.square().mean()


def pairs_at(step: int, clean: Images, attacked: Sequence[Tensor], config: RemoverConfig) -> tuple[Crops, Crops]:
    """Crops of photographs and their perturbations, as a function of (seed, step). Half of them are mirrored."""
    rng = np.random.default_rng((config.seed, step))
    x, delta = [], []
    for _ in range(config.batch_size):
        number, kind = int(rng.integers(len(clean))), int(rng.integers(len(attacked)))
        top, left = (int(rng.integers(size - config.crop + 1)) for size in clean.shape[-2:])
        part = (slice(None), slice(top, top + config.crop), slice(left, left + config.crop))
        one, other = clean[number][part], attacked[kind][number][part]
        if rng.integers(2):
            one, other = one.flip(-1), other.flip(-1)
        x.append(one)
        delta.append(other - one)
    return torch.stack(x), torch.stack(delta)


def _check(clean: Images, attacked: Sequence[Tensor], config: RemoverConfig) -> None:
    if not attacked:
        raise InputError("give the photographs as at least one attack changed them")
    for made in attacked:
        if made.shape != clean.shape:
            raise InputError(f"attacked images are {tuple(made.shape)} and the photographs {tuple(clean.shape)}")
    if min(clean.shape[-2:]) < config.crop:
        raise InputError(f"crops of {config.crop} pixels do not fit into images of {clean.shape[-2]} x {clean.shape[-1]}")
