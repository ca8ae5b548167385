"""The photographs of a benchmark under its attacks. They are 8-bit images within the budget, and a cache keeps them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from srlvae.attacks.contrast import split_contrast
from srlvae.attacks.engine.pgd import size_of
from srlvae.attacks.engine.trace import Trace
from srlvae.attacks.noise import noisy, signs_of_rms
from srlvae.attacks.prepared import PreparedAttack, prepare
from srlvae.attacks.request import Request
from srlvae.attacks.table import NOISES
from srlvae.attacks.through import Through
from srlvae.bench.cache import Cache, key_of, key_of_image
from srlvae.bench.cells import Cell
from srlvae.images import Images, to_levels
from srlvae.models.pipeline import Pipeline
from srlvae.models.vae import VAE
from srlvae.rng import named_generator


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

    - models: what the names `original`, `hardened` and `twin` stand for.
    - steps: from an attack, as the protocol calls it, to the number of its steps. None means the number of the preset.
    - purifier: from a purifier's name to how an attack goes through it.
    """

    models: Mapping[str, VAE | Pipeline]
    steps: Callable[[str], int | None]
    seed: int
    cache: Cache
    purifier: Callable[[str], Through] | None = None

    def images(self, cell: Cell, clean: ImageSet) -> ImageSet:
        """The photographs `clean` after what the cell does to them. Those that are in the cache are not made again."""
        if cell.attack == "none":
            return clean
        if cell.attack in NOISES:
            return noisy_images(clean, cell.attack, cell.eps, self.seed, self.cache)
        whole = attacked_images(self.prepared(cell), clean, self.cache)
        return part_images(cell.part, whole, clean, self.seed, self.cache) if cell.part else whole

    def prepared(self, cell: Cell) -> PreparedAttack:
        """The attack of a cell, ready on its models."""
        steps = cell.steps or self.steps(cell.chosen)
        asked: dict[str, Any] = {"preset": cell.preset or None, "restarts": cell.restarts or None, "seed": self.seed}
        request = Request(cell.attack, eps=cell.eps, steps=steps, **asked)
        attack = prepare(request, self.models["original" if cell.made_on == "both" else cell.made_on])
        if cell.made_on == "both":
            hardened = self.models["hardened"]
            attack = replace(attack, also=(hardened.vae if isinstance(hardened, Pipeline) else hardened,))
        return replace(attack, knows=self.purifier(cell.through)) if cell.through and self.purifier else attack

    def doubts(self, attacked: ImageSet) -> list[str]:
        """What speaks against believing the attack that made these images. Each image adds its own reasons to the list."""
        return [doubt for note in self.cache.notes(attacked.keys) if note for doubt in note["doubts"]]


def noisy_images(clean: ImageSet, noise: str, eps: float, seed: int, cache: Cache) -> ImageSet:
    """The photographs with noise of a name in NOISES within ε, rounded to 8 bits.

    The noise of a photograph depends on its key and on the seed alone.
    """
    keys = [key_of("noisy", noise=noise, eps=eps, seed=seed, source=key) for key in clean.keys]

    def make(part: list[int]) -> tuple[Tensor, list[Any]]:
        x, draws = clean.images[part], [named_generator(seed, clean.keys[i]) for i in part]
        return to_levels(noisy(x, noise, eps, draws)).float() / 255, [None] * len(part)

    def within(i: int, image: Tensor) -> bool:
        # Rounding may add half a level.
        return image.shape == clean.images[i].shape and bool((image - clean.images[i]).abs().max() <= eps + 0.5 / 255 + 1e-6)

    return ImageSet(keys, cache.images(keys, make, within))


def part_images(part: str, attacked: ImageSet, clean: ImageSet, seed: int, cache: Cache) -> ImageSet:
    """What a part of each perturbation makes of its photograph, rounded to 8 bits. `part` is one of PARTS.

    A part may move a pixel further than the whole perturbation did.
    """
    pairs = zip(attacked.keys, clean.keys, strict=True)
    keys = [key_of("noisy", part=part, seed=seed, source=key, clean=own) for key, own in pairs]

    def make(chosen: list[int]) -> tuple[Tensor, list[Any]]:
        x, draws = clean.images[chosen], [named_generator(seed, clean.keys[i]) for i in chosen]
        delta = attacked.images[chosen] - x
        if part == "signs":
            found = signs_of_rms(x, size_of(delta, "rms"), draws)
        else:
            contrast, rest = split_contrast(x, delta)
            found = (x + (contrast if part == "contrast" else rest)).clamp(0, 1)
        return to_levels(found).float() / 255, [None] * len(chosen)

    return ImageSet(keys, cache.images(keys, make))


def attacked_images(attack: PreparedAttack, clean: ImageSet, cache: Cache) -> ImageSet:
    """The photographs under an attack. Only those that the cache does not have are made.

    With each image the cache keeps a note of the attack's settings, of the doubts about its run, and of how far the objective
    `fell` in its last quarter. Attacks compute in float32 on every device: neither a gradient nor the choice of the best
    iterate is rounded to bfloat16.
    """
    settings = attack.made_from()
    keys = [key_of("attacked", **settings, source=key) for key in clean.keys]

    def make(part: list[int]) -> tuple[Tensor, list[Any]]:
        trace = Trace(lambda step, objective: cache.listener.check())
        found = attack.perturb(clean.images[part].to(attack.vae.device), [clean.keys[i] for i in part], trace)
        said = [{"doubts": doubts, "fell": trace.fell_at_last(i)} for i, doubts in enumerate(trace.doubts(len(part)))]
        return found, [{**settings, **own} for own in said]

    return ImageSet(keys, cache.images(keys, make, lambda i, image: attack.keeps_budget(image, clean.images[i])))
