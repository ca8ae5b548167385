"""Anti-DreamBooth (ASPL): attack a surrogate that is fine-tuned on clean and on attacked images in turn.

Le et al. 2023 (arXiv 2303.15433), algorithm 1. In every round a copy of the UNet learns the clean image, the image is moved to
raise the copy's denoising loss, and the UNet itself learns the moved image. Every image has a surrogate of its own here,
so that it does not depend on its neighbours; prior preservation is left out.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor
from typing_extensions import Unpack

from srlvae.attacks.engine.pgd import Loop, Objective, pgd
from srlvae.attacks.papers.advdm import denoising_objective
from srlvae.errors import InputError
from srlvae.images import Images
from srlvae.models.pipeline import Pipeline
from srlvae.rng import Generators


class Surrogate:
    """A fine-tuned copy of a pipeline's UNet, and the objective of the attack on it; tuned anew after every `inner` calls."""

    def __init__(
        self, pipeline: Pipeline, x: Images, prompt: str, generators: Generators, tuning: int, inner: int, rate: float
    ):
        self.x, self.prompt, self.generators = x, prompt, generators
        self.tuning, self.inner, self.rate = tuning, inner, rate
        self.poisoned = self.attacked = pipeline.with_unet(copy.deepcopy(pipeline.pipe.unet))
        self.calls = 0

    def __call__(self, adversarial: Images) -> Tensor:
        if self.calls % self.inner == 0:
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
        optimizer = torch.optim.AdamW(weights, lr=self.rate)
        for _ in range(self.tuning):
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
    eps: float,
    steps: int,
    step_size: float,
    generators: Generators,
    prompt: str = "a photo of sks person",
    tuning: int = 3,
    inner: int = 6,
    rate: float = 5e-7,
    **loop: Unpack[Loop],
) -> Images:
    """Attacked images that resist being learnt. Every `inner` steps the surrogate is tuned for `tuning` steps on each side."""
    found, mask, evaluations = [], loop.pop("mask", None), inner * loop.get("repeats", 1)
    if len(x) > 1 and (loop.get("view") or loop.get("watch")):
        raise InputError("images are attacked one after another here: give one at a time where a view or a watch is wanted")
    for i, g in enumerate(generators):
        objective = Surrogate(pipeline, x[i : i + 1], prompt, [g], tuning=tuning, inner=evaluations, rate=rate)
        part = None if mask is None else mask[i : i + 1]
        settings = {"eps": eps, "steps": steps, "step_size": step_size, "generators": [g], "mask": part}
        found.append(pgd(x[i : i + 1], objective, **settings, keep_best=False, **loop))
    return torch.cat(found)
