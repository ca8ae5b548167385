"""The pictures of the mimicry benchmark, and the fine-tunings on them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from srlvae.bench.attacked import Attacker, ImageSet, photograph_set
from srlvae.bench.cache import Cache
from srlvae.bench.cells import Cell
from srlvae.bench.mimicry_protocol import MimicryProtocol
from srlvae.bench.photographs import find_class_folders
from srlvae.bench.purifiers import Purifiers
from srlvae.bench.rows import VAE_OF, Access, Condition, vae_of
from srlvae.bench.styles import Style
from srlvae.events import Listener
from srlvae.finetune import FinetuneConfig, encode_images, tune
from srlvae.images import Images, LeftOut
from srlvae.models.pipeline import Pipeline
from srlvae.rng import generators

# How many images are generated, and how many photographs are rendered at a time.
BATCH = 8


@dataclass(frozen=True)
class Mimic:
    """One fine-tuning of the mimicry benchmark.

    - style: that of the pictures that it learns.
    - cell: what protects the pictures.
    - defence: what the mimic does about it: `none`, `hardened`, or the name of a purifier.
    - seed: the seed of the fine-tuning and of the images that are generated afterwards.
    """

    style: Style
    cell: Cell
    defence: str
    seed: int

    def condition(self) -> Condition:
        """The condition of this fine-tuning's row."""
        return {**self.cell.condition(), "style": self.style.kind, "seed": self.seed}

    def access(self) -> Access:
        """What the artist's protection knew of the VAE that encodes the pictures."""
        return self.cell.access(self.defence)

    def __str__(self) -> str:
        return f"{self.style.kind}, {self.cell}, {self.defence}, seed {self.seed}"


class Pictures:
    """The photographs of each concept: the first `each` become the artist's pictures, then come those of the judge.

    `pipelines` are those around the `original` and the `hardened` VAE. `folder` has a folder of photographs for each concept.

    Raises InputError if a folder has too few photographs.
    """

    def __init__(self, pipelines: dict[str, Pipeline], folder: Path, protocol: MimicryProtocol, cache: Cache):
        self.pipelines, self.protocol, self.cache = pipelines, protocol, cache
        self.words = [concept.word for concept in protocol.concepts]
        self.left_out = LeftOut(cache.listener)
        size, needed = pipelines["original"].size, protocol.each + protocol.judged + protocol.held_out
        folders = dict.fromkeys((concept.folder for concept in protocol.concepts), needed)
        found = find_class_folders(folder, folders, size, self.left_out)
        self.photographs = {concept.word: found[concept.folder] for concept in protocol.concepts}
        self.keys = {word: list(found.keys[:needed]) for word, found in self.photographs.items()}
        steps = {chosen.label: chosen.steps or None for chosen in protocol.attacks}
        self.attacker = Attacker(pipelines, steps.__getitem__, protocol.attack_seed, cache)
        self._doubts: dict[tuple[Style, Cell], list[str]] = {}

    def drawn(self, style: Style) -> ImageSet:
        """The artist's pictures, `each` of every concept."""
        each = self.protocol.each
        return photograph_set(style.render(torch.cat([self.photographs[word][:each] for word in self.words])))

    def captions(self, style: Style) -> list[str]:
        """The captions of the artist's pictures."""
        return [style.prompt(word) for word in self.words for _ in range(self.protocol.each)]

    def protected(self, style: Style, cell: Cell) -> ImageSet:
        """The artist's pictures as they are published."""
        return self.attacker.images(cell, self.drawn(style))

    def doubts(self, style: Style, cell: Cell) -> list[str]:
        """What speaks against believing the protection of the artist's pictures."""
        if (style, cell) not in self._doubts:
            self._doubts[style, cell] = self.attacker.doubts(self.protected(style, cell))
        return self._doubts[style, cell]

    def for_judge(self, held_out: bool = False) -> Iterator[Images]:
        """Batches of other photographs, to fit the judge on, or others again that are `held_out` to try it."""
        first, judged = self.protocol.each, self.protocol.judged
        chosen = slice(first + judged, first + judged + self.protocol.held_out) if held_out else slice(first, first + judged)
        return (self.photographs[word][chosen] for word in self.words)


class Tuner:
    """Fine-tunes the pipelines around the original and the hardened VAE by the settings of a protocol."""

    def __init__(self, pictures: Pictures):
        self.pictures, self.protocol = pictures, pictures.protocol
        self.purifiers = Purifiers(pictures.pipelines["original"])
        self.chosen = {chosen.name: chosen for chosen in self.protocol.purifiers}

    def tuned(self, mimic: Mimic, listener: Listener) -> Pipeline:
        """The pipeline after a fine-tuning."""
        protocol, pipeline = self.protocol, self.pictures.pipelines[vae_of(mimic.defence)]
        published = self.pictures.protected(mimic.style, mimic.cell)
        latents = encode_images(pipeline, self._defended(mimic, published), mimic.seed)
        rate = protocol.learning_rate
        config = FinetuneConfig(steps=protocol.steps, batch_size=protocol.batch_size, learning_rate=rate, seed=mimic.seed)
        return tune(pipeline, latents, self.pictures.captions(mimic.style), config, listener=listener)

    def _defended(self, mimic: Mimic, published: ImageSet) -> Tensor:
        if mimic.defence in VAE_OF:
            return published.images
        # Other processes work on other fine-tunings, so they do not share these images.
        own = replace(self.pictures.cache, shared=False)
        return self.purifiers.images(self.chosen[mimic.defence], published, published.keys, mimic.seed, own).images

    def settings_of(self, defence: str) -> dict[str, Any]:
        """The settings of a purifier, which belong to the key of a fine-tuning; empty for a VAE."""
        return self.purifiers.settings_of(self.chosen[defence]) if defence in self.chosen else {}

    def generated(self, pipeline: Pipeline, style: Style, seed: int) -> Tensor:
        """Images in the style, `generated` of every concept, by a pipeline that was fine-tuned or not."""
        prompts = [style.prompt(word) for word in self.pictures.words for _ in range(self.protocol.generated)]
        draws, steps = generators(seed + 1000, range(len(prompts))), self.protocol.denoising_steps
        parts = [slice(start, start + BATCH) for start in range(0, len(prompts), BATCH)]
        return torch.cat([pipeline.generate(prompts[part], draws[part], steps=steps).cpu() for part in parts])
