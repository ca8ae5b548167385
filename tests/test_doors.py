"""Every public door refuses what is no image batch: another type, another range, another order of dimensions."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from jaxtyping import TypeCheckError
from torch import Tensor

from conftest import small_kl
from pipelines import sd15
from srlvae.attacks.engine.apgd import apgd
from srlvae.attacks.engine.ball import Ball
from srlvae.attacks.engine.pgd import pgd
from srlvae.errors import InputError
from srlvae.metrics.clip import load_clip
from srlvae.metrics.features import load_features
from srlvae.metrics.judge import load_judge
from srlvae.metrics.pairwise import psnr, ssim
from srlvae.rng import generators

BALL = Ball(8 / 255, 1, 1 / 255)


def total(x: Tensor) -> Tensor:
    return x.sum((1, 2, 3))


DOORS: dict[str, Callable[[Tensor], object]] = {
    "mean": lambda x: small_kl().mean(x),
    "posterior": lambda x: small_kl().posterior(x),
    "sample": lambda x: small_kl().sample(x, generators(0, range(len(x)))),
    "reconstruct": lambda x: small_kl().reconstruct(x),
    "edit": lambda x: sd15(small_kl()).edit(x, ["a cat"] * len(x), generators(0, range(len(x))), steps=2, strength=1.0),
    "pgd": lambda x: pgd(x, total, BALL),
    "apgd": lambda x: apgd(x, total, BALL, generators=generators(0, range(len(x)))),
    "psnr": lambda x: psnr(x, torch.zeros(2, 3, 32, 32)),
    "ssim": lambda x: ssim(x, torch.zeros(2, 3, 32, 32)),
    "features": lambda x: load_features("efficientnet-lite0").pooled(x),
    "clip": lambda x: load_clip("tiny-clip").images(x),
    "judge": lambda x: load_judge().scores(x),
}
WRONG = {
    "levels": torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8),
    "[-1,1]": torch.rand(2, 3, 32, 32) * 2 - 1,
    "channels last": torch.rand(2, 32, 32, 3),
}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("wrong", WRONG)
def test_a_door_refuses_what_is_no_image_batch(door, wrong):
    # Where annotations are checked, as in these tests, they may be the first to see it.
    with pytest.raises((InputError, TypeCheckError, TypeError)):
        DOORS[door](WRONG[wrong])


@pytest.mark.parametrize("door", DOORS)
def test_a_door_lets_images_in(door):
    DOORS[door](torch.rand(2, 3, 32, 32))
