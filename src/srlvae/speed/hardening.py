"""Steps of hardening as it is here, beside those of the method as it was published."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

from PIL import Image

from srlvae.harden import preset
from srlvae.harden.crops import Crops, batches
from srlvae.harden.networks import frozen_copy
from srlvae.harden.progress import Progress
from srlvae.harden.rotation import visits
from srlvae.harden.settings import HardenConfig
from srlvae.harden.trainer import Trainer
from srlvae.images import Images, to_pil
from srlvae.models.vae import VAE
from srlvae.speed.rounds import Work

# Images in a step, and pixels of a crop; after so many steps every batch was replaced by a new one as often as in a long run.
BATCH, SIDE, STEPS = 4, 64, 8
OBJECTIVES = ("srl", "srl-paper")


class Squares:
    """Photographs that are in memory."""

    def __init__(self, x: Images):
        self.pictures = [to_pil(image) for image in x]

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> Image.Image:
        return self.pictures[index]


def hardening_works(vae: VAE, x: Images) -> list[Work]:
    """STEPS steps of each of OBJECTIVES."""
    ways: dict[str, Callable[[], object]] = {name: _steps(vae, x, _config(name)) for name in OBJECTIVES}
    return [Work(f"hardening, {SIDE} pixels", STEPS * BATCH, ways, OBJECTIVES[-1])]


def _config(name: str) -> HardenConfig:
    """The objective's settings, but that one batch is in turn: it is replaced as often as each of many."""
    config = preset("cpu", name, resolution=SIDE, batch_size=BATCH, micro_batch=BATCH)
    return replace(config, objective=replace(config.objective, turns=BATCH))


def _steps(vae: VAE, x: Images, config: HardenConfig) -> Callable[[], None]:
    """A function that takes STEPS steps each time, on networks of its own."""
    trainer = Trainer(frozen_copy(vae), config, x[:2])
    progress, ahead = Progress(), iter(visits(config.steps, config.places, config.objective.visits))
    crops = Crops(Squares(x), list(range(len(x))), SIDE, 0)
    samples = batches(crops, [trainer.numbers(n) for n in range(config.steps)], 0)

    def run() -> None:
        for visit in itertools.islice(ahead, STEPS):
            if visit.new:
                trainer.take(visit.place, next(samples), progress, 1.0)
            trainer.step(progress, visit.place)

    return run
