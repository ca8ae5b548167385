"""The mimicry benchmark: a pipeline learns an artist's style from protected pictures, and a judge says whether it has.

After Hönig et al. 2024 (arXiv 2406.12027), in miniature: an artist is a rendering of photographs, people are a classifier of
renderings, and a mimic may take whichever of all methods gives the image that is most in the style. The decoder, the text
encoder and the UNet to start from are the same throughout.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from srlvae.bench.cache import CACHE, Cache, announce, key_of
from srlvae.bench.cells import CLEAN, Cell
from srlvae.bench.estimates import mean_estimate, share_estimate
from srlvae.bench.mimicry_protocol import MimicryProtocol
from srlvae.bench.mimics import Mimic, Pictures, Tuner
from srlvae.bench.output import claim_output
from srlvae.bench.points import SHEETS, measure_once, run_points
from srlvae.bench.protocol import as_written
from srlvae.bench.rows import Access, Condition, Estimate, Row, as_data
from srlvae.bench.styles import PHOTOGRAPH, Style, classes_of, fit_style_probe, renderings
from srlvae.events import Listener
from srlvae.images import Images
from srlvae.locks import holds
from srlvae.metrics.features import load_features
from srlvae.metrics.judge import Judge
from srlvae.models.pairs import told_differences
from srlvae.models.pipeline import Pipeline
from srlvae.models.vae import VAE
from srlvae.provenance import environment
from srlvae.training.precision import automatic_precision
from srlvae.training.processes import processes

RESULT = "mimicry.json"
# Settings that are not part of a fine-tuning's key, or are there as far as it uses them.
SWEPT_SETTINGS = ("styles", "attacks", "purifiers", "seeds", "pipeline", "hardened")


def mimics(protocol: MimicryProtocol) -> Iterator[Mimic]:
    """Every fine-tuning of the protocol: each style, not protected and under each attack, by each method of the mimic.

    An attack that was made on the hardened VAE is only tried on that VAE.
    """
    methods = ["none", "hardened", *(chosen.name for chosen in protocol.purifiers)]
    cells = [(CLEAN, method) for method in methods]
    for chosen, eps in ((attack, eps) for attack in protocol.attacks for eps in attack.eps):
        cells += [(Cell(chosen.name, eps, "original", chosen.preset), method) for method in methods]
        cells += [(Cell(chosen.name, eps, "hardened", chosen.preset), "hardened")] * chosen.white_box
    for seed, style, (cell, defence) in itertools.product(protocol.seeds, protocol.styles, cells):
        yield Mimic(style, cell, defence, seed)


def best_of(protocol: MimicryProtocol) -> str:
    """What rows call the mimic's choice, image by image, among all methods, such as `best of 4`."""
    return f"best of {1 + len(protocol.purifiers)}"


def sheet_name(condition: Condition, access: Access, defence: str) -> str:
    """The file name of the contact sheet of a row."""
    said = [*(str(condition[key]) for key in ("style", "attack", "eps")), access, defence, str(condition["seed"])]
    return "-".join(said).replace("/", "_").replace(" ", "_") + ".webp"


@holds("out")
def mimicry(
    pipeline: Pipeline,
    hardened: VAE,
    folder: Path,
    out: Path,
    protocol: MimicryProtocol,
    listener: Listener | None = None,
) -> dict[str, Any]:
    """Run the mimicry benchmark on the class folders in `folder`, and return the result.

    Beside its `rows`, a result has those of the judge on `rendered` photographs that it was not fitted on, and on the images of
    the `untuned` pipeline. Rows, and a contact sheet for each fine-tuning, are written to `out`; fine-tunings are kept in
    `out`/cache. If several processes run together, they share the fine-tunings, and all but the main one return {}.

    Raises InputError for folders with too few photographs.
    """
    listener = listener or Listener()
    pipeline = pipeline.without_safety_checker()
    differences = told_differences(pipeline.vae, hardened, listener)
    pipelines = {"original": pipeline, "hardened": pipeline.with_vae(hardened)}
    claim_output(out, "mimicry", RESULT)
    automatic_precision()
    pictures = Pictures(pipelines, folder, protocol, Cache(out / CACHE, protocol.batch_size, listener))
    pictures.left_out.write(out)
    sweep, planned = MimicSweep(pictures, out), list(mimics(protocol))
    for style, cell in dict.fromkeys((mimic.style, mimic.cell) for mimic in planned):
        pictures.protected(style, cell)
    announce(pictures.cache.folder)
    result = {**sweep.about(), "protocol": as_written(protocol), "versions": environment(), "points": len(planned)}
    result |= {"doubts": differences, "rows": []}
    if processes().is_main_process:
        result |= {"rendered": as_data(sweep.rendered()), "untuned": as_data(sweep.untuned())}
    return run_points(sweep, planned, result, out / RESULT, listener)


class MimicSweep:
    """The fine-tunings of a protocol. Of each, what the judge says of every image is kept with a contact sheet."""

    def __init__(self, pictures: Pictures, out: Path):
        self.pictures, self.protocol, self.cache, self.out = pictures, pictures.protocol, pictures.cache, out
        self.tuner = Tuner(pictures)
        self.networks = pictures.pipelines["original"].fingerprint()
        self.vaes = {name: pipe.vae.fingerprint() for name, pipe in pictures.pipelines.items()}
        settings = {key: value for key, value in asdict(self.protocol).items() if key not in SWEPT_SETTINGS}
        # The judge's classes are the styles, so that a judge of others is another.
        self.made_of: dict[str, Any] = {"settings": settings, "styles": [asdict(style) for style in self.protocol.styles]}
        self.made_of |= {"photographs": pictures.keys, "networks": self.networks}
        self.made_of |= {"sampling": pictures.pipelines["original"].settings()}

    def about(self) -> dict[str, Any]:
        """The part of a result that names the networks."""
        return {"benchmark": "mimicry", "networks": self.networks, **self.vaes}

    @functools.cached_property
    def judge(self) -> Judge:
        """The judge of styles, which the main process fits if something is asked of it. It is the same in every process."""
        styles, size = self.protocol.styles, self.pictures.pipelines["original"].size
        features, key = load_features(self.protocol.features), key_of("mimicked", judge=True, **self.made_of)

        def fit() -> list[Any]:
            return [part.tolist() for part in fit_style_probe(styles, self.pictures.for_judge(), features)]

        main = processes().is_main_process
        weight, bias = self.cache.record(key, fit) if main else self.cache.record_of(key, 0)
        return Judge(classes_of(styles), features, torch.tensor(weight), torch.tensor(bias), size)

    def key(self, point: Mimic) -> str:
        """The key of a fine-tuning in the cache. The hardened VAE belongs to it only if the fine-tuning uses that VAE."""
        steps = {chosen.label: chosen.steps for chosen in self.protocol.attacks}.get(point.cell.chosen, 0)
        uses = "hardened" in (point.defence, point.cell.made_on)
        used = {**asdict(point), "attack_steps": steps, "purifier": self.tuner.settings_of(point.defence)}
        return key_of("mimicked", vaes=self.vaes if uses else self.vaes["original"], mimic=used, **self.made_of)

    def measure(self, point: Mimic, listener: Listener) -> None:
        """Fine-tune, generate and judge, unless that was done before, and copy the contact sheet to this run's sheets."""

        def make() -> tuple[dict[str, Any], Images]:
            shown = self.tuner.generated(self.tuner.tuned(point, listener), point.style, point.seed)
            return {"judged": self._judged(shown)}, shown

        sheet = self.out / SHEETS / sheet_name(point.condition(), point.access(), point.defence)
        measure_once(self.cache, self.key(point), make, sheet)

    def rows(self, points: Sequence[Mimic]) -> list[Row]:
        """The rows of fine-tunings that are measured, and those of the mimic's choice where all methods are."""
        rows, found = [], {point: self.cache.record_of(self.key(point), 0) for point in points}
        for point, record in found.items():
            measures = self._measures(torch.tensor(record["judged"]), point.style)
            measures["seconds"] = Estimate(record["seconds"], None, None, 1)
            rows.append(self._row(point, point.defence, measures))
        methods = 1 + len(self.protocol.purifiers)
        for point in points:
            others = [o for o in points if (o.style, o.cell, o.seed) == (point.style, point.cell, point.seed)]
            tried = [torch.tensor(found[other]["judged"]) for other in others if other.defence != "none"]
            if point.defence == "none" and len(tried) == methods:
                measures = self._measures(self._best(torch.stack(tried), point.style), point.style)
                rows.append(self._row(point, best_of(self.protocol), measures))
        return rows

    def rendered(self) -> list[Row]:
        """What the judge says of renderings of photographs that it was not fitted on: the most that a mimic can reach."""

        def make() -> list[Any]:
            batches = [renderings(self.protocol.styles, x) for x in self.pictures.for_judge(held_out=True)]
            return [self._judged(torch.cat(of_class)) for of_class in zip(*batches, strict=True)]

        key = key_of("mimicked", rendered=True, **self.made_of)
        judged = self.cache.record(key, make)[1:]
        return [self._baseline(style, torch.tensor(own)) for style, own in zip(self.protocol.styles, judged, strict=True)]

    def untuned(self) -> list[Row]:
        """What the judge says of the images of the pipeline as it comes, asked for each style."""
        pipeline, seed = self.pictures.pipelines["original"], self.protocol.seeds[0]

        def make() -> list[Any]:
            return [self._judged(self.tuner.generated(pipeline, style, seed)) for style in self.protocol.styles]

        judged = self.cache.record(key_of("mimicked", untuned=self.vaes["original"], seed=seed, **self.made_of), make)
        return [self._baseline(style, torch.tensor(own)) for style, own in zip(self.protocol.styles, judged, strict=True)]

    def _judged(self, x: Images) -> list[list[float]]:
        """The probability of each class, for each image."""
        with torch.no_grad():
            return self.judge.scores(x).softmax(1).tolist()

    def _number(self, style: Style) -> int:
        return 1 + self.protocol.styles.index(style)

    def _best(self, tried: Tensor, style: Style) -> Tensor:
        """Of the probabilities `methods images classes`, for each image those of the method with the most of the style."""
        chosen = tried[:, :, self._number(style)].argmax(0)
        return tried[chosen, torch.arange(tried.shape[1])]

    def _measures(self, judged: Tensor, style: Style) -> dict[str, Estimate]:
        called, number = judged.argmax(1), self._number(style)
        shares = {"in_style": share_estimate(called == number), PHOTOGRAPH: share_estimate(called == 0)}
        return {**shares, "probability": mean_estimate(judged[:, number], seed=0)}

    def _row(self, point: Mimic, defence: str, measures: dict[str, Estimate]) -> Row:
        access, n = point.cell.access(defence), measures["in_style"].n
        return Row(point.condition(), access, defence, n, measures, self.pictures.doubts(point.style, point.cell))

    def _baseline(self, style: Style, judged: Tensor) -> Row:
        measures = self._measures(judged, style)
        return Row({**CLEAN.condition(), "style": style.kind}, "none", "none", len(judged), measures)
