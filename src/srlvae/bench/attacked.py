"""The photographs of a benchmark under its attacks. They are 8-bit images within the budget, and a cache keeps them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from srlvae.attacks import ATTACKS
from srlvae.attacks.engine.trace import Trace
from srlvae.attacks.noise import noisy
from srlvae.attacks.prepared import PreparedAttack, prepare
from srlvae.attacks.request import Request
from srlvae.bench.cache import Cache, key_of, key_of_image
from srlvae.bench.rows import Condition
from srlvae.config import budget
from srlvae.images import Images, to_levels
from srlvae.models.pipeline import Pipeline
from srlvae.models.vae import VAE
from srlvae.rng import named_generator

# Noise that is uniform in the ball. An attack should do more damage than noise of the same budget.
UNIFORM_NOISE = "uniform-noise"


@dataclass(frozen=True)
class Cell:
    """What is done to the photographs in one cell of a benchmark's table.

    - attack: the name of an attack, `none` for clean photographs, or `uniform-noise`.
    - eps: the budget ε of the attack, in [0,1] units.
    - made_on: the VAE that the attack is made on, `original` or `hardened`; blank for clean photographs and for noise.
    """

    attack: str
    eps: float
    made_on: str

    def condition(self) -> Condition:
        """The part of a row's condition that this cell decides: the attack and its budget, written `15/255`.

        A budget that is no bound on each pixel adds its `norm`, such as `rms`.
        """
        norm = ATTACKS[self.attack].default.ball.norm if self.attack in ATTACKS else "linf"
        return {"attack": self.attack, "eps": budget(self.eps), **({} if norm == "linf" else {"norm": norm})}

    def __str__(self) -> str:
        made = f" made on the {self.made_on} VAE" if self.made_on else ""
        return "clean" if self.attack == "none" else f"{self.attack} {budget(self.eps)}{made}"


CLEAN = Cell("none", 0.0, "")


@dataclass(frozen=True)
class ImageSet:
    """Images `n 3 h w` in [0,1] and, for each of them, the key of everything that it was made from."""

    keys: list[str]
    images: Tensor

    def __getitem__(self, part: slice) -> ImageSet:
        return ImageSet(self.keys[part], self.images[part])


def photograph_set(x: Images) -> ImageSet:
    """Photographs as an image set. The key of each is the hash of its pixels, whose values must be multiples of 1/255."""
    return ImageSet([key_of_image(image) for image in x], x)


@dataclass(frozen=True)
class Attacker:
    """Makes the images of every cell, with one seed for all, and keeps them in a cache.

    - models: what the names `original` and `hardened` stand for.
    - steps: from an attack's name to the number of its steps. None means the number of the attack's preset.
    """

    models: Mapping[str, VAE | Pipeline]
    steps: Callable[[str], int | None]
    seed: int
    cache: Cache

    def images(self, cell: Cell, clean: ImageSet) -> ImageSet:
        """The photographs `clean` after what the cell does to them. Those that are in the cache are not made again."""
        if cell.attack == "none":
            return clean
        if cell.attack == UNIFORM_NOISE:
            return noisy_images(clean, cell.eps, self.seed, self.cache)
        request = Request(cell.attack, eps=cell.eps, steps=self.steps(cell.attack), seed=self.seed)
        return attacked_images(prepare(request, self.models[cell.made_on]), clean, self.cache)

    def doubts(self, attacked: ImageSet) -> list[str]:
        """What speaks against believing the attack that made these images. Each image adds its own reasons to the list."""
        return [doubt for note in self.cache.notes(attacked.keys) if note for doubt in note["doubts"]]


def noisy_images(clean: ImageSet, eps: float, seed: int, cache: Cache) -> ImageSet:
    """The photographs with uniform noise within ε, rounded to 8 bits.

    The noise of a photograph depends on its key and on the seed alone.
    """
    keys = [key_of("uniform-noise", eps=eps, seed=seed, source=key) for key in clean.keys]

    def make(part: list[int]) -> tuple[Tensor, list[Any]]:
        x, draws = clean.images[part], [named_generator(seed, clean.keys[i]) for i in part]
        return to_levels(noisy(x, UNIFORM_NOISE, eps, draws)).float() / 255, [None] * len(part)

    def within(i: int, image: Tensor) -> bool:
        # Rounding may add half a level.
        return image.shape == clean.images[i].shape and bool((image - clean.images[i]).abs().max() <= eps + 0.5 / 255 + 1e-6)

    return ImageSet(keys, cache.images(keys, make, within))


def attacked_images(attack: PreparedAttack, clean: ImageSet, cache: Cache) -> ImageSet:
    """The photographs under an attack. Only those that the cache does not have are made.

    With each image the cache keeps a note of the attack's settings and of the doubts about its run. Attacks compute in float32
    on every device: neither a gradient nor the choice of the best iterate is rounded to bfloat16.
    """
    settings = attack.made_from()
    keys = [key_of("attacked", **settings, source=key) for key in clean.keys]

    def make(part: list[int]) -> tuple[Tensor, list[Any]]:
        trace = Trace()
        found = attack.perturb(clean.images[part].to(attack.vae.device), [clean.keys[i] for i in part], trace)
        return found, [{**settings, "doubts": doubts} for doubts in trace.doubts(len(part))]

    return ImageSet(keys, cache.images(keys, make, lambda i, image: attack.keeps_budget(image, clean.images[i])))
