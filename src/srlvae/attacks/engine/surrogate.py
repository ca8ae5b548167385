"""Attacks on a UNet that learns meanwhile: every image has surrogates of its own, which are tuned between rounds of the attack.

So what is made of an image does not depend on its neighbours. The pipeline that is given is left as it was found.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from srlvae.attacks.engine.pgd import Objective
from srlvae.images import Images
from srlvae.models.lora import add_lora
from srlvae.models.pipeline import Pipeline
from srlvae.rng import Generators


@dataclass(frozen=True)
class Tuning:
    """How surrogates are tuned: for `steps` steps, after every `every` steps of the attack, at the rate `rate`.

    rank: of LoRA on the attention; 0 tunes all weights.
    """

    steps: int = 3
    every: int = 6
    rate: float = 5e-7
    rank: int = 0


class Surrogate:
    """The objective on one image, whose pipeline is renewed at its first call and then after every `every` calls.

    - renew: the attacked image as it is now → the pipeline that the next round attacks.
    - objective: the attack's objective on a pipeline.
    """

    def __init__(self, renew: Callable[[Images], Pipeline], objective: Callable[[Pipeline], Objective], every: int):
        self.renew, self.make, self.every = renew, objective, every
        self.calls = 0

    def __call__(self, adversarial: Images) -> Tensor:
        """Return the objective of the image, after a renewal if its time has come."""
        if self.calls % self.every == 0:
            self.attacked = self.renew(adversarial.detach())
            self.objective = self.make(self.attacked)
        self.calls += 1
        return self.objective(adversarial)


def for_each_image(make: Callable[[int], Objective], generators: Generators) -> Objective:
    """The objectives of images of which each has one of its own, `make(i)` for image i, as one objective."""
    objectives = [make(i) for i in range(len(generators))]

    def objective(adversarial: Images) -> Tensor:
        return torch.cat([own(image) for own, image in zip(objectives, adversarial.split(1), strict=True)])

    return objective


def copied(pipeline: Pipeline, rank: int = 0) -> Pipeline:
    """The pipeline with a frozen copy of its UNet, to which LoRA of `rank` is added."""
    unet: Any = copy.deepcopy(pipeline.pipe.unet)
    if rank:
        add_lora(unet, rank, seed=0)
    return pipeline.with_unet(unet.requires_grad_(False))


def tune(pipeline: Pipeline, loss: Callable[[], Tensor], tuning: Tuning) -> None:
    """Take a few steps of AdamW on the UNet of `pipeline`, or on its LoRA, down the mean of `loss`."""
    weights = _weights(pipeline.pipe.unet, tuning.rank)
    for weight in weights:
        weight.requires_grad_(True)
    optimizer = torch.optim.AdamW(weights, lr=tuning.rate)
    for _ in range(tuning.steps):
        # Autocast would keep the weights as they were at the first step.
        with without_cache(pipeline.device):
            value = loss().sum()
        # Of these weights alone: the VAE may ask for gradients of its own.
        for weight, gradient in zip(weights, torch.autograd.grad(value, weights), strict=True):
            weight.grad = gradient
        optimizer.step()
    optimizer.zero_grad()
    for weight in weights:
        weight.requires_grad_(False)


def without_cache(device: torch.device) -> torch.autocast:
    """Autocast as it is, on or off, but without its cache of weights in lower precision."""
    kind = device.type
    enabled, dtype = torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)
    return torch.autocast(kind, dtype=dtype, enabled=enabled, cache_enabled=False)


def _weights(unet: nn.Module, rank: int) -> Sequence[nn.Parameter]:
    return [weight for name, weight in unet.named_parameters() if not rank or "lora_" in name]
