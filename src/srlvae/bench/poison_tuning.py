"""Fine-tunes a pipeline on clean and poisoned images, and judges the images that it generates afterwards."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from srlvae.bench.estimates import mean_estimate, share_estimate
from srlvae.bench.poison_defences import TrainingDefences
from srlvae.bench.poisons import Poison, Poisons, prompt_of
from srlvae.bench.rows import Condition, Estimate
from srlvae.config import budget
from srlvae.events import Listener
from srlvae.finetune import FinetuneConfig, encode_images, tune
from srlvae.images import Images
from srlvae.metrics.clip import Clip, clip_t
from srlvae.metrics.judge import Judge
from srlvae.models.pipeline import Pipeline
from srlvae.rng import generators

# How many images are generated at a time.
BATCH = 8


@dataclass(frozen=True)
class Tuning:
    """One fine-tuning of the poisoning benchmark.

    - poison: what is added to the clean training images.
    - defence: `none`, `hardened` (the hardened VAE encodes all training images), the name of a purifier that all training
      images go through, or `scan` (images that the scan finds suspicious are left out).
    - seed: the seed of the fine-tuning and of the images that are generated afterwards.
    """

    poison: Poison
    defence: str
    seed: int

    def condition(self) -> Condition:
        """The condition of this fine-tuning's row."""
        return {**self.poison.condition(), "seed": self.seed}

    def __str__(self) -> str:
        poison, access = self.poison, self.poison.access(self.defence)
        kind = poison.attack if access == "none" else f"{poison.name} {budget(poison.eps)} {access}"
        said = f"{poison.number} {kind}" if poison.number else "no poison"
        return f"{poison.concept} → {poison.target}, {said}, {self.defence}, seed {self.seed}"


class Tuner:
    """Fine-tunes the pipelines around the original and the hardened VAE by the settings of a protocol."""

    def __init__(self, poisons: Poisons, defences: TrainingDefences):
        self.poisons, self.defences, self.protocol = poisons, defences, poisons.protocol
        self._clean: tuple[tuple[str, int], Pipeline] | None = None

    def tuned(self, tuning: Tuning, listener: Listener) -> Pipeline:
        """The pipeline after a fine-tuning.

        Without poison all pairs of concepts share a fine-tuning, so the last such pipeline is kept in memory.
        """
        if tuning.poison.number:
            return self._tuned(tuning, listener)
        key = (tuning.defence, tuning.seed)
        if self._clean is None or self._clean[0] != key:
            self._clean = key, self._tuned(tuning, listener)
        return self._clean[1]

    def _tuned(self, tuning: Tuning, listener: Listener) -> Pipeline:
        poison, protocol = tuning.poison, self.protocol
        pipeline = self.poisons.pipelines["hardened" if tuning.defence == "hardened" else "original"]
        x, captions = self.poisons.clean()
        if poison.number:
            x = torch.cat([x, self.poisons.images(poison)])
            captions = captions + [prompt_of(poison.concept)] * poison.number
        x, captions = self.defences.apply(tuning.defence, poison.concept, tuning.seed, x, captions)
        latents = encode_images(pipeline, x, tuning.seed)
        rate = protocol.learning_rate
        config = FinetuneConfig(steps=protocol.steps, batch_size=protocol.batch_size, learning_rate=rate, seed=tuning.seed)
        return tune(pipeline, latents, captions, config, listener=listener)


class PoisonJudge:
    """Measures what a fine-tuned pipeline shows.

    - judge: says which concept an image shows.
    - clip: scores images of the other concepts against their prompts.
    - words: all concepts of the protocol.
    - generated: how many images of the poisoned concept are generated.
    - others: how many images of each other concept are generated.
    - denoising_steps: the steps of every generation.
    """

    def __init__(self, judge: Judge, clip: Clip, words: list[str], generated: int, others: int, denoising_steps: int):
        self.judge, self.clip, self.words = judge, clip, words
        self.generated, self.others, self.denoising_steps = generated, others, denoising_steps

    def measure(self, pipeline: Pipeline, tuning: Tuning) -> tuple[dict[str, Estimate], Images]:
        """Generate images with the fine-tuned pipeline, and return the estimates and the images of the poisoned concept.

        - `target`, `concept`, `neither`: the share of images generated for the concept that the judge calls the target, the
          concept, or something else.
        - `others`: the share of images of other concepts that the judge calls what they were generated for.
        - `clip_t`: the mean CLIP-T of the images of other concepts.
        """
        numbers, poison = {word: i for i, word in enumerate(self.judge.concepts)}, tuning.poison
        shown = self._generate(pipeline, poison.concept, self.generated, tuning.seed)
        calls = self.judge.predict(shown)
        target, own = calls == numbers[poison.target], calls == numbers[poison.concept]
        rest = [word for word in self.words if word not in (poison.concept, poison.target)]
        others = {word: self._generate(pipeline, word, self.others, tuning.seed) for word in rest}
        called = {"target": target, "concept": own, "neither": ~(target | own)}
        called["others"] = torch.cat([self.judge.predict(x) == numbers[word] for word, x in others.items()])
        measures = {name: share_estimate(found) for name, found in called.items()}
        likeness = torch.cat([clip_t(self.clip, x, [prompt_of(word)] * len(x)) for word, x in others.items()])
        return {**measures, "clip_t": mean_estimate(likeness, seed=0)}, shown

    def _generate(self, pipeline: Pipeline, word: str, count: int, seed: int) -> Tensor:
        draws = generators(seed + 1000, range(count))
        parts, prompt = [draws[i : i + BATCH] for i in range(0, count, BATCH)], prompt_of(word)
        steps = self.denoising_steps
        return torch.cat([pipeline.generate([prompt] * len(part), part, steps=steps) for part in parts]).cpu()
