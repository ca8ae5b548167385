"""The photographs of a benchmark under its attacks: whole grey levels within the budget, kept by what they were made from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from srlvae.attacks.engine.trace import Trace
from srlvae.attacks.prepared import PreparedAttack, prepare
from srlvae.attacks.request import Request
from srlvae.bench.cache import Cache, key_of, key_of_image
from srlvae.bench.rows import Condition
from srlvae.config import budget
from srlvae.images import Images, to_levels
from srlvae.models.pipeline import Pipeline
from srlvae.models.vae import VAE
from srlvae.rng import named_generator, uniform_like
from srlvae.training.precision import make_accelerator

# What an attack must beat to deserve its name: noise of the same budget, uniform in the ball.
UNIFORM_NOISE = "uniform-noise"


@dataclass(frozen=True)
class Cell:
    """An attack within ε, in [0,1], made on the `original` or the `hardened` VAE. made_on blank: clean images or noise."""

    attack: str
    eps: float
    made_on: str

    def condition(self) -> Condition:
        """What a row says of it."""
        return {"attack": self.attack, "eps": budget(self.eps)}

    def __str__(self) -> str:
        made = f" made on the {self.made_on} VAE" if self.made_on else ""
        return "clean" if self.attack == "none" else f"{self.attack} {budget(self.eps)}{made}"


CLEAN = Cell("none", 0.0, "")


@dataclass(frozen=True)
class ImageSet:
    """Images and, for each, the key of what it was made from."""

    keys: list[str]
    images: Tensor

    def __getitem__(self, part: slice) -> ImageSet:
        return ImageSet(self.keys[part], self.images[part])


def photograph_set(x: Images) -> ImageSet:
    """Photographs of whole grey levels under keys of their own levels."""
    return ImageSet([key_of_image(image) for image in x], x)


@dataclass(frozen=True)
class Attacker:
    """Makes the image sets of cells.

    models: what `original` and `hardened` stand for. steps: of an attack by its name; None for its preset's.
    """

    models: Mapping[str, VAE | Pipeline]
    steps: Callable[[str], int | None]
    seed: int
    cache: Cache

    def images(self, cell: Cell, clean: ImageSet) -> ImageSet:
        """The photographs `clean` as the cell has them."""
        if cell.attack == "none":
            return clean
        if cell.attack == UNIFORM_NOISE:
            return noisy_images(clean, cell.eps, self.seed, self.cache)
        request = Request(cell.attack, eps=cell.eps, steps=self.steps(cell.attack), seed=self.seed)
        return attacked_images(prepare(request, self.models[cell.made_on]), clean, self.cache)

    def doubts(self, attacked: ImageSet) -> list[str]:
        """What speaks against believing the attack, from the notes on its images."""
        return [doubt for note in self.cache.notes(attacked.keys) if note for doubt in note["doubts"]]


def noisy_images(clean: ImageSet, eps: float, seed: int, cache: Cache) -> ImageSet:
    """The photographs with uniform noise within ε."""
    keys = [key_of("uniform-noise", eps=eps, seed=seed, source=key) for key in clean.keys]

    def make(part: list[int]) -> tuple[Tensor, list[Any]]:
        x, draws = clean.images[part], [named_generator(seed, clean.keys[i]) for i in part]
        noisy = to_levels((x + eps * uniform_like(x, draws)).clamp(0, 1)).float() / 255
        return noisy, [None] * len(part)

    return ImageSet(keys, cache.images(keys, make))


def attacked_images(attack: PreparedAttack, clean: ImageSet, cache: Cache) -> ImageSet:
    """The photographs under an attack, made where they are missing.

    Each has a note of the settings and of the doubts about its run. Attacks compute in bfloat16 where that pays: signs of
    gradients need no more, and take half the time.
    """
    accelerator = make_accelerator("auto")
    settings = attack.made_from() | {"precision": accelerator.mixed_precision}
    keys = [key_of("attacked", **settings, source=key) for key in clean.keys]

    def make(part: list[int]) -> tuple[Tensor, list[Any]]:
        trace = Trace()
        with accelerator.autocast():
            found = attack.perturb(clean.images[part].to(attack.vae.device), [clean.keys[i] for i in part], trace)
        return found, [{**settings, "doubts": doubts} for doubts in trace.doubts(len(part))]

    return ImageSet(keys, cache.images(keys, make))
