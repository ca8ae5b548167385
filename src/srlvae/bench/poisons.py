"""The photographs of the poisoning benchmark, and the poisons made from them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from srlvae.attacks.papers.nightshade import likeness
from srlvae.attacks.prepared import prepare
from srlvae.attacks.request import Request
from srlvae.bench.attacked import ImageSet, attacked_images, photograph_set
from srlvae.bench.cache import Cache
from srlvae.bench.photographs import Photographs, find_class_folders
from srlvae.bench.protocol import PoisoningProtocol
from srlvae.bench.rows import Access, Condition, access_of
from srlvae.config import budget
from srlvae.errors import InputError
from srlvae.images import Images, LeftOut
from srlvae.metrics.clip import Clip
from srlvae.models.pipeline import Pipeline
from srlvae.training.processes import told

NIGHTSHADE, DIRTY_LABEL = "nightshade", "dirty-label"
# How many photographs CLIP sees at a time.
BATCH = 64


@dataclass(frozen=True)
class Poison:
    """What is added to the clean training images.

    - concept: what the poisons are captioned as.
    - target: what they teach the model to show instead.
    - attack: `none`, `nightshade`, or `dirty-label`, which stands for pictures of the target with the wrong caption.
    - eps: the budget of Nightshade in [0,1] units; 0 for the others.
    - number: how many poisons are added.
    - made_on: the VAE that Nightshade was made on, `original` or `hardened`; blank for the others.
    - steps: those of Nightshade where they are not the protocol's, and otherwise 0.
    """

    concept: str
    target: str
    attack: str
    eps: float
    number: int
    made_on: str
    steps: int = 0

    @property
    def name(self) -> str:
        """What rows call the attack."""
        return f"{self.attack}, {self.steps} steps" if self.steps else self.attack

    def condition(self) -> Condition:
        """The part of a row's condition that the poison decides."""
        about = {"attack": self.name, "eps": budget(self.eps), "concept": self.concept, "target": self.target}
        return {**about, "poisons": self.number, **({"of": self.attack, "steps": self.steps} if self.steps else {})}

    def access(self, defence: str) -> Access:
        """What the poison's maker knew of the VAE that encodes the training images under `defence`."""
        return access_of(self.made_on, defence)


def prompt_of(word: str) -> str:
    """The caption of images of a concept, which is also the prompt that asks for it."""
    return f"a photo of a {word}"


class Poisons:
    """The photographs of each concept: the first `clean_each` are for clean training, and poisons are made from the others.

    `pipelines` are those around the `original` and the `hardened` VAE. `folder` has a folder of photographs for each concept.

    Raises InputError if a folder has too few photographs.
    """

    def __init__(self, pipelines: dict[str, Pipeline], folder: Path, clip: Clip, protocol: PoisoningProtocol, cache: Cache):
        self.pipelines, self.clip, self.protocol, self.cache = pipelines, clip, protocol, cache
        self.words = [concept.word for concept in protocol.concepts]
        size = pipelines["original"].size
        self.left_out = LeftOut(cache.listener)
        in_pairs = {word for pair in protocol.pairs for word in (pair.concept, pair.target)}
        needed = {concept.folder: protocol.clean_each + (concept.word in in_pairs) for concept in protocol.concepts}
        found = find_class_folders(folder, needed, size, self.left_out)
        self.photographs = {concept.word: found[concept.folder] for concept in protocol.concepts}
        self._sources: dict[str, Images] = {}
        self._notes: dict[Poison, list[dict[str, Any]]] = {}
        self.keys = {word: list(found.keys) for word, found in self.photographs.items()}

    def clean(self) -> tuple[Images, list[str]]:
        """The clean training images of all concepts, and their captions."""
        each = self.protocol.clean_each
        x = [self.photographs[word][:each] for word in self.words]
        return torch.cat(x), [prompt_of(word) for word, part in zip(self.words, x, strict=True) for _ in part]

    def spare(self, concept: str) -> Photographs:
        """The photographs of a concept that clean training does not use."""
        return self.photographs[concept].after(self.protocol.clean_each)

    def sources(self, concept: str) -> Images:
        """The spare photographs that CLIP finds most typical of a concept. Of several processes the main one chooses."""
        if concept not in self._sources:
            spare, protocol = self.spare(concept), self.protocol
            order = likeness(self.clip, spare.batches(BATCH), concept).argsort(descending=True).tolist()
            self._sources[concept] = spare[told(order)[: min(max(protocol.counts), protocol.sources)]]
        return self._sources[concept]

    def images(self, poison: Poison) -> Images:
        """The poisoned images, `poison.number` of them.

        They are made from the photographs of the concept that CLIP finds most typical of it. If there are fewer photographs
        than poisons, poisons are repeated.
        """
        if poison.attack == DIRTY_LABEL:
            return _repeated(self.spare(poison.target)[: poison.number], poison.number)
        return _repeated(self._nightshade(poison).images[: poison.number], poison.number)

    def notes(self, poison: Poison) -> list[dict[str, Any]]:
        """What is known of how each poisoned image was made, of Nightshade's images without repeats."""
        if poison.attack != NIGHTSHADE:
            return []
        made = replace(poison, number=0)
        if made not in self._notes:
            self._notes[made] = self.cache.notes(self._nightshade(poison).keys)
        return self._notes[made][: poison.number]

    def _nightshade(self, poison: Poison) -> ImageSet:
        """Nightshade on all sources of a concept."""
        sources = self.sources(poison.concept)
        steps, prompt = poison.steps or self.protocol.attack_steps, prompt_of(poison.target)
        request = Request(NIGHTSHADE, eps=poison.eps, steps=steps, prompt=prompt)
        attack = prepare(request, self.pipelines[poison.made_on])
        return attacked_images(attack, photograph_set(sources), self.cache)


def check_concepts(protocol: PoisoningProtocol, judge_knows: list[str]) -> None:
    """Check that the judge knows all concepts, and that pairs are of concepts of the protocol.

    Raises InputError that names the others.
    """
    words = {concept.word for concept in protocol.concepts}
    in_pairs = {word for pair in protocol.pairs for word in (pair.concept, pair.target)}
    if unknown := sorted(((in_pairs | words) - set(judge_knows)) | (in_pairs - words)):
        raise InputError(
            f"unknown concepts {', '.join(unknown)}; the judge must know each concept, and pairs take those of the protocol"
        )


def _repeated(x: Tensor, count: int) -> Tensor:
    return x[torch.arange(count) % len(x)]
