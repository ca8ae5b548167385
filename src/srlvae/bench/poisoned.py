"""Everything that the poisoning benchmark makes: poisons, defences of training images, tuned pipelines and their scores."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from srlvae.attacks.papers.nightshade import select_sources
from srlvae.attacks.prepared import prepare
from srlvae.attacks.request import Request
from srlvae.bench.cache import Store, key_of_image
from srlvae.bench.perturbed import perturbed
from srlvae.bench.photographs import load_photographs
from srlvae.bench.protocol import PoisoningProtocol
from srlvae.bench.purified import Purification
from srlvae.errors import InputError
from srlvae.finetune import FinetuneConfig, Stepped, encode_images, tune
from srlvae.metrics.bootstrap import bootstrap_interval
from srlvae.metrics.clip import Clip, clip_t
from srlvae.metrics.judge import Judge
from srlvae.models.pipeline import Pipeline
from srlvae.models.vae import VAE
from srlvae.purify import PURIFIERS
from srlvae.rng import generators
from srlvae.scan import EVIDENCE, Normal, calibrate, check_enough
from srlvae.scan.evidence import evidence

SCAN = "scan"


@dataclass(frozen=True)
class Point:
    """One fine-tuning. kind: of the poisons, blank where there are none. defence: `none`, `hardened` (encodes all training
    images), a purifier that all training images go through, or `scan` (images that it finds suspicious are left out)."""

    concept: str
    target: str
    kind: str
    eps: int
    count: int
    defence: str
    seed: int


def prompt_of(word: str) -> str:
    return f"a photo of a {word}"


class Poisoning:
    """The networks of a protocol around both VAEs, the photographs by concept, and what is made of them."""

    def __init__(
        self,
        pipeline: Pipeline,
        hardened: VAE,
        folder: Path,
        clip: Clip,
        judge: Judge,
        protocol: PoisoningProtocol,
        store: Store,
    ):
        self.protocol, self.store, self.clip, self.judge = protocol, store, clip, judge
        pipeline = pipeline.without_safety_checker()
        self.pipelines = {"original": pipeline, "hardened": pipeline.with_vae(hardened)}
        self.networks = pipeline.fingerprint()
        self.purify = Purification(pipeline)
        self.plans = {plan.name: plan for plan in protocol.purifiers}
        self._clean: tuple[tuple[str, int], Pipeline] | None = None
        self._seen: dict[str, Tensor] = {}
        self.words = [concept.word for concept in protocol.concepts]
        named_in_pairs = {word for pair in protocol.pairs for word in (pair.concept, pair.target)}
        if unknown := sorted(((named_in_pairs | set(self.words)) - set(judge.concepts)) | (named_in_pairs - set(self.words))):
            raise InputError(f"the concepts {', '.join(unknown)} are not among those of the protocol and of the judge")
        # All of them, in a shuffle: first those for clean training, then those that poison is made of.
        self.photographs = {c.word: load_photographs(folder / c.folder, 10**6, pipeline.size, 0)[0] for c in protocol.concepts}
        for concept in protocol.concepts:
            found, needed = len(self.photographs[concept.word]), protocol.clean_each + (concept.word in named_in_pairs)
            if found < needed:
                raise InputError(f"{folder / concept.folder} has {found} readable photographs, {needed} are needed")
        if protocol.scan_rate:
            for pair in protocol.pairs:
                check_enough(sum(map(len, self._spare(pair.concept))), protocol.scan_rate)
        self.keys = {word: [key_of_image(image) for image in x] for word, x in self.photographs.items()}

    def clean(self) -> tuple[Tensor, list[str]]:
        each = self.protocol.clean_each
        x = [self.photographs[word][:each] for word in self.words]
        return torch.cat(x), [prompt_of(word) for word, part in zip(self.words, x, strict=True) for _ in part]

    def poisons(self, point: Point) -> Tensor:
        """`count` poisons: photographs of the concept that CLIP finds most like it, taken again where they are few."""
        if point.kind == "dirty-label":
            return self._repeated(self.photographs[point.target][self.protocol.clean_each :], point.count)
        spare = self.photographs[point.concept][self.protocol.clean_each :]
        most = min(max(self.protocol.counts), self.protocol.sources, len(spare))
        sources = spare[select_sources(self.clip, spare, point.concept, most)]
        return self._repeated(self._perturbed(sources, point)[: point.count], point.count)

    def make_poisons(self, plan: list[Point]) -> None:
        """Have the poisons of all points on disk: processes share the images of this, and later the points."""
        for point in {(p.concept, p.target, p.kind, p.eps): p for p in plan if p.count}.values():
            self.poisons(point)

    def _repeated(self, x: Tensor, count: int) -> Tensor:
        return x[torch.arange(count) % len(x)]

    def _perturbed(self, sources: Tensor, point: Point) -> Tensor:
        """Nightshade on all sources of a concept, kept by what it was made from."""
        pipeline = self.pipelines["hardened" if point.kind == "white-box" else "original"]
        steps, prompt = self.protocol.attack_steps, prompt_of(point.target)
        attack = prepare(Request("nightshade", eps=point.eps / 255, steps=steps, prompt=prompt), pipeline)
        return perturbed(attack, sources, [key_of_image(x) for x in sources], self.store)[1]

    def tuned(self, point: Point, stepped: Stepped) -> Pipeline:
        """The pipeline after fine-tuning on what the point says; without poison the last one is kept, which all pairs share."""
        if point.count:
            return self._tuned(point, stepped)
        key = (point.defence, point.seed)
        if self._clean is None or self._clean[0] != key:
            self._clean = key, self._tuned(point, stepped)
        return self._clean[1]

    def _tuned(self, point: Point, stepped: Stepped) -> Pipeline:
        pipeline = self.pipelines["hardened" if point.defence == "hardened" else "original"]
        x, captions = self.clean()
        if point.count:
            x, captions = torch.cat([x, self.poisons(point)]), captions + [prompt_of(point.concept)] * point.count
        x, captions = self._defended(x, captions, point)
        latents = encode_images(pipeline, x, point.seed)
        config = FinetuneConfig(
            steps=self.protocol.steps,
            batch_size=self.protocol.batch_size,
            learning_rate=self.protocol.learning_rate,
            seed=point.seed,
        )
        return tune(pipeline, latents, captions, config, stepped=stepped)

    def _defended(self, x: Tensor, captions: list[str], point: Point) -> tuple[Tensor, list[str]]:
        if point.defence in ("none", "hardened"):
            return x, captions
        if point.defence == SCAN:
            normal, threshold = self.normal(point.concept)
            kept = (normal.scores(self._evidence(x)) <= threshold).nonzero()[:, 0].tolist()
            return x[kept], [captions[i] for i in kept]
        names = [key_of_image(image) for image in x]
        plan = self.plans[point.defence]
        # Processes are at other points.
        own = replace(self.store, shared=False)
        return self.purify.keep(plan, x, names, names, point.seed, own)[1], captions

    def settings_of(self, point: Point) -> dict[str, Any]:
        """Of a point's defence."""
        if point.defence == SCAN:
            return {"evidence": EVIDENCE}
        plan = self.plans.get(point.defence)
        return {**PURIFIERS[plan.name].settings, **plan.settings} if plan else {}

    def normal(self, concept: str) -> tuple[Normal, float]:
        """What scan finds normal, and its threshold: from photographs of other concepts, which are not trained on."""
        return calibrate(self._evidence(torch.cat(self._spare(concept))), self.protocol.scan_rate)

    def _spare(self, concept: str) -> list[Tensor]:
        return [x[self.protocol.clean_each :] for word, x in self.photographs.items() if word != concept]

    def _evidence(self, x: Tensor) -> Tensor:
        """What scan sees in each image, looked at once: points share their clean images, and poisons are repeated."""
        original, hardened = (self.pipelines[name].vae for name in ("original", "hardened"))
        keys = [key_of_image(image) for image in x]
        new = {key: image for key, image in zip(keys, x, strict=True) if key not in self._seen}
        for part in [list(new)[i : i + 8] for i in range(0, len(new), 8)]:
            found = evidence(original, hardened, torch.stack([new[key] for key in part]).to(original.device)).cpu()
            self._seen |= dict(zip(part, found, strict=True))
        return torch.stack([self._seen[key] for key in keys]) if keys else torch.zeros(0, len(EVIDENCE))

    def measure(self, tuned: Pipeline, point: Point) -> tuple[dict, Tensor]:
        """What the judge calls images of the concept: target, concept or neither; how often the other concepts are themselves,
        and the CLIP-T of their images; and the images of the concept."""
        protocol, numbers = self.protocol, {word: i for i, word in enumerate(self.judge.concepts)}
        shown = self._generated(tuned, point.concept, protocol.generated, point.seed)
        calls = self.judge.calls(shown)
        target, own = calls == numbers[point.target], calls == numbers[point.concept]
        rest = [word for word in self.words if word not in (point.concept, point.target)]
        others = {word: self._generated(tuned, word, protocol.others, point.seed) for word in rest}
        values = {"target": target, "concept": own, "neither": ~(target | own)}
        values["others"] = torch.cat([self.judge.calls(x) == numbers[word] for word, x in others.items()])
        values["clip_t"] = torch.cat([clip_t(self.clip, x, [prompt_of(word)] * len(x)) for word, x in others.items()])
        measured = {}
        for name, value in values.items():
            interval = bootstrap_interval(value.float(), torch.Generator().manual_seed(0))
            measured |= {name: value.float().mean().item(), f"{name}_interval": list(interval), f"{name}_n": len(value)}
        return measured, shown

    def _generated(self, pipeline: Pipeline, word: str, count: int, seed: int) -> Tensor:
        draws = generators(seed + 1000, range(count), pipeline.device)
        parts, prompt = [draws[i : i + 8] for i in range(0, count, 8)], prompt_of(word)
        return torch.cat(
            [pipeline.generate([prompt] * len(part), part, steps=self.protocol.denoising_steps) for part in parts]
        ).cpu()
