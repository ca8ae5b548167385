"""Does poison take hold? A pipeline is fine-tuned on clean images and N poisons, and a judge says what it shows afterwards.

Nightshade (Shan et al. 2023): photographs of a concept, captioned as such, whose latents are those of another, the target. Its
success is the share of images generated for the concept that the judge calls the target. The VAE in question encodes all
training images; decoder, text encoder and the UNet to start from are the same throughout.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from torch import Tensor

from srlvae.attacks import ATTACKS
from srlvae.attacks.papers.nightshade import select_sources
from srlvae.attacks.request import Job, choose_setting
from srlvae.bench.cache import Store, beat, key_of, key_of_image, wait_for
from srlvae.bench.perturbed import perturbed
from srlvae.bench.photographs import load_photographs
from srlvae.bench.protocol import PoisoningProtocol
from srlvae.bench.purified import Purification
from srlvae.errors import InputError
from srlvae.files import write_json
from srlvae.finetune import FinetuneConfig, Stepped, encode_images, tune
from srlvae.images import tile, write_image
from srlvae.metrics.bootstrap import bootstrap_interval
from srlvae.metrics.clip import Clip, clip_t
from srlvae.metrics.judge import Judge
from srlvae.models.pipeline import Pipeline
from srlvae.models.vae import VAE
from srlvae.provenance import versions
from srlvae.purify import PURIFIERS
from srlvae.rng import generators
from srlvae.scan import EVIDENCE, Normal, calibrate, check_enough
from srlvae.scan.evidence import evidence

RESULT, CACHE, SHEETS = "poisoning.json", "cache", "sheets"
SCAN = "scan"
# Defences that the hardened VAE takes part in.
WITH_HARDENED = ("hardened", SCAN)
# What a point says itself, and names of networks, whose weights count: a longer sweep keeps what a shorter one made.
SWEPT = ("pairs", "counts", "eps", "kinds", "seeds", "purifiers", "pipeline", "hardened")


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


def points(protocol: PoisoningProtocol) -> Iterator[Point]:
    """Every fine-tuning of the protocol.

    Transfer poisons are swept over their number, from none at all, at the largest ε, and over ε at the largest number, without
    defence and with the hardened VAE. What is there to compare, other kinds of poison and other defences, has the largest of
    both alone.
    """
    most, widest = max(protocol.counts), max(protocol.eps)
    swept = [("", 0, 0), *(("transfer", widest, count) for count in protocol.counts if count)]
    swept += [("transfer", eps, most) for eps in protocol.eps if eps != widest]
    dirty, white_box = [("dirty-label", 0, most)], [("white-box", widest, most)]
    # Made on the hardened VAE, poison is white-box to that VAE alone; wrong captions are the same to both.
    poisons = {"none": swept + dirty, "hardened": swept + white_box}
    others = [plan.name for plan in protocol.purifiers] + [SCAN] * (protocol.scan_rate > 0)
    poisons |= {name: [("transfer", widest, most)] for name in others}
    for seed, (defence, own) in itertools.product(protocol.seeds, poisons.items()):
        for (kind, eps, count), pair in itertools.product(own, protocol.pairs):
            if kind in ("", *protocol.kinds):
                yield Point(pair.concept, pair.target, kind, eps, count, defence, seed)


def sheet_name(point: Point, key: str) -> str:
    """File of the images of a point; key: of everything else that they were made from."""
    values = [str(value) for value in asdict(point).values() if value != ""]
    return "-".join([*values, key[:8]]).replace(" ", "_") + ".webp"


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
        setting = choose_setting("nightshade", eps=point.eps / 255, steps=steps, prompt=prompt)
        job = Job("nightshade", ATTACKS["nightshade"], setting, pipeline)
        return perturbed(job, sources, [key_of_image(x) for x in sources], self.store)[1]

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


def poisoning(
    pipeline: Pipeline,
    hardened: VAE,
    folder: Path,
    out: Path,
    clip: Clip,
    judge: Judge,
    protocol: PoisoningProtocol,
    done: Callable[[Point, int, int], None] = lambda point, number, total: None,
    stepped: Stepped = lambda step, loss: None,
) -> dict:
    """Run the sweep on the class folders in `folder`; rows and a sheet a point go to `out`, and are not made again.

    Processes that run together share the points out, and all but the main one return {}. Raises: InputError for concepts that
    nobody knows.
    """
    bench = Poisoning(pipeline, hardened, folder, clip, judge, protocol, Store(out / CACHE, protocol.batch_size))
    about = {"benchmark": "poisoning", "networks": bench.networks, "clip": clip.name}
    judges = {"clip": clip.fingerprint(), "judge": judge.fingerprint()}
    sampling = pipeline.settings()
    vaes = {name: pipe.vae.fingerprint() for name, pipe in bench.pipelines.items()}
    settings = {key: value for key, value in asdict(protocol).items() if key not in SWEPT}
    plan, state = list(points(protocol)), PartialState()
    bench.make_poisons(plan)
    if state.num_processes > 1:
        beat(bench.store.folder, state.process_index)

    def file_of(point: Point) -> Path:
        # Another hardened VAE leaves the points without one as they are.
        used = vaes if point.defence in WITH_HARDENED else {"original": vaes["original"]}
        made_of = {"vaes": used, "settings": settings, "photographs": bench.keys, "purifier": bench.settings_of(point)}
        made_of |= {"judges": judges, "sampling": sampling}
        return out / CACHE / "points" / f"{key_of('poisoned', networks=bench.networks, **made_of, point=asdict(point))}.json"

    files = [file_of(point) for point in plan]
    result = {**about, **vaes, "protocol": json.loads(json.dumps(asdict(protocol))), "versions": versions()}
    result |= {"points": len(plan), "rows": []}
    for number, (point, file) in enumerate(zip(plan, files, strict=True), 1):
        if not file.exists() and number % state.num_processes == state.process_index:
            started = time.perf_counter()
            measured, shown = bench.measure(bench.tuned(point, stepped), point)
            sheet = sheet_name(point, file.stem)
            write_image(out / SHEETS / sheet, tile([list(shown[i : i + 8]) for i in range(0, len(shown), 8)]))
            seconds = time.perf_counter() - started
            write_json(file, {**asdict(point), "seconds": seconds, "judged": measured, "sheet": sheet})
            if state.is_main_process:
                result["rows"] = [json.loads(made.read_text(encoding="utf-8")) for made in files if made.exists()]
                write_json(out / RESULT, result)
        done(point, number, len(plan))
    if not state.is_main_process:
        return {}
    made_by = [(file, number % state.num_processes) for number, file in enumerate(files, 1)]
    result["rows"] = [json.loads(wait_for(file, bench.store.folder, maker).read_text("utf-8")) for file, maker in made_by]
    write_json(out / RESULT, result)
    return result
