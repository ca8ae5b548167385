"""Anti-DreamBooth (ASPL): attack a surrogate that is fine-tuned on clean and on attacked images in turn.

Le et al. 2023 (arXiv 2303.15433), algorithm 1. In every round a copy of the UNet learns the clean image, the image is moved to
raise the copy's denoising loss, and the UNet itself learns the moved image. Every image has a surrogate of its own here,
so that it does not depend on its neighbours; prior preservation is left out.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from srlvae.attacks.engine.ball import Ball
from srlvae.attacks.engine.pgd import Loop, Objective, pgd
from srlvae.attacks.papers.advdm import denoising_objective
from srlvae.errors import InputError
from srlvae.images import Images
from srlvae.models.pipeline import Pipeline
from srlvae.rng import Generators


@dataclass(frozen=True)
class Tuning:
    """How surrogates are tuned: for `steps` steps on each side, after every `every` steps of the attack, at the rate `rate`."""

    steps: int = 3
    every: int = 6
    rate: float = 5e-7


class Surrogate:
    """The objective of the attack: the denoising loss of a fine-tuned copy of the UNet, which is tuned anew after some calls.

    `repeats` is the number of calls in a step of the attack.
    """

    def __init__(self, pipeline: Pipeline, x: Images, prompt: str, generators: Generators, tuning: Tuning, repeats: int = 1):
        self.x, self.prompt, self.generators = x, prompt, generators
        self.tuning, self.every = tuning, tuning.every * repeats
        self.poisoned = self.attacked = pipeline.with_unet(copy.deepcopy(pipeline.pipe.unet))
        self.calls = 0

    def __call__(self, adversarial: Images) -> Tensor:
        """Return minus the denoising loss of the image on the surrogate, which is tuned first if its time has come."""
        if self.calls % self.every == 0:
            if self.calls:
                self._tune(self.poisoned, adversarial.detach())
            self.attacked = self.poisoned.with_unet(copy.deepcopy(self.poisoned.pipe.unet))
            self._tune(self.attacked, self.x)
        self.calls += 1
        return self._loss(self.attacked)(adversarial)

    def _loss(self, pipeline: Pipeline) -> Objective:
        return denoising_objective(pipeline, self.prompt, self.generators, (self.x.shape[-2], self.x.shape[-1]))

    def _tune(self, pipeline: Pipeline, images: Images) -> None:
        """A few steps of DreamBooth without prior preservation."""
        unet, loss = pipeline.pipe.unet, self._loss(pipeline)
        unet.requires_grad_(True)
        weights = list(unet.parameters())
        optimizer = torch.optim.AdamW(weights, lr=self.tuning.rate)
        for _ in range(self.tuning.steps):
            # Of these weights alone: the VAE may ask for gradients of its own.
            for weight, gradient in zip(weights, torch.autograd.grad((-loss(images)).sum(), weights), strict=True):
                weight.grad = gradient
            optimizer.step()
        optimizer.zero_grad()
        unet.requires_grad_(False)


def antidreambooth(
    x: Images,
    *,
    pipeline: Pipeline,
    ball: Ball,
    generators: Generators,
    prompt: str = "a photo of sks person",
    tuning: Tuning | None = None,
    loop: Loop | None = None,
) -> Images:
    """Attacked images that resist being learnt. Raises InputError for several images behind a view or under a watch."""
    found, tuning, loop = [], tuning or Tuning(), loop or Loop()
    if len(x) > 1 and (loop.view or loop.watch):
        raise InputError("images are attacked one after another here: give one at a time where a view or a watch is wanted")
    for i, draw in enumerate(generators):
        own = slice(i, i + 1)
        objective = Surrogate(pipeline, x[own], prompt, [draw], tuning, loop.repeats)
        alone = replace(loop, mask=None if loop.mask is None else loop.mask[own])
        found.append(pgd(x[own], objective, ball, generators=[draw], loop=alone, keep_best=False))
    return torch.cat(found)
