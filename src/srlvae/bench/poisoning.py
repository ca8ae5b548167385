"""The poisoning benchmark: a pipeline is fine-tuned on clean and poisoned images, and a judge says what it shows afterwards.

Nightshade (Shan et al. 2023, arXiv 2310.13828) makes poisons: photographs of a concept, captioned as such, whose latents are
those of another concept, the target. Its success is the share of images generated for the concept that the judge calls the
target. The VAE in question encodes all training images. The decoder, the text encoder and the UNet to start from are the same
throughout.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from srlvae.bench.cache import CACHE, Cache, announce, key_of
from srlvae.bench.estimates import mean_estimate
from srlvae.bench.output import claim_output
from srlvae.bench.points import SHEETS, measure_once, run_points
from srlvae.bench.poison_defences import SCAN, TrainingDefences
from srlvae.bench.poison_tuning import PoisonJudge, Tuner, Tuning
from srlvae.bench.poisons import DIRTY_LABEL, NIGHTSHADE, Poison, Poisons, check_concepts
from srlvae.bench.protocol import PoisoningProtocol, as_written
from srlvae.bench.rows import Access, Condition, Estimate, Row, read_measures
from srlvae.events import Listener
from srlvae.images import Images
from srlvae.locks import holds
from srlvae.metrics.clip import Clip
from srlvae.metrics.judge import Judge
from srlvae.models.pairs import told_differences
from srlvae.models.pipeline import Pipeline
from srlvae.models.vae import VAE
from srlvae.provenance import environment
from srlvae.training.precision import automatic_precision

RESULT = "poisoning.json"
# An attack has converged if its objective falls by no more than this share in the last quarter of its steps.
CONVERGED = 0.05
# The defences that use the hardened VAE.
USES_HARDENED = ("hardened", SCAN)
# Settings that are not part of a fine-tuning's key as they are, so that a longer sweep keeps what a shorter one made. What a
# fine-tuning takes from them is in its own fields, and networks count by their weights instead of their names.
SWEPT_SETTINGS = ("pairs", "counts", "eps", "more_steps", "white_box", "dirty_label")
SWEPT_SETTINGS += ("seeds", "purifiers", "pipeline", "hardened", "clip", "judge", "scan_rate")


def tunings(protocol: PoisoningProtocol) -> Iterator[Tuning]:
    """Every fine-tuning of the protocol.

    Without a defence and with the hardened VAE, poison made on the original VAE is swept over two settings: over its number,
    from none at all, at the largest ε; and over ε, at the largest number. Other kinds of poison and other defences are run at
    the largest number and the largest ε alone, and so is Nightshade with more steps.
    """
    most, widest = max(protocol.counts), max(protocol.eps)
    longer = protocol.attack_steps + protocol.more_steps
    nightshade = (NIGHTSHADE, widest, most, "original", 0)
    swept = [("none", 0.0, 0, "", 0), *((NIGHTSHADE, widest, count, "original", 0) for count in protocol.counts if count)]
    swept += [(NIGHTSHADE, eps, most, "original", 0) for eps in protocol.eps if eps != widest]
    swept += [(NIGHTSHADE, widest, most, "original", longer)] * (protocol.more_steps > 0)
    # Poison made on the hardened VAE is only tried on that VAE. Wrong captions are the same for both VAEs.
    poisons = {"none": swept + [(DIRTY_LABEL, 0.0, most, "", 0)] * protocol.dirty_label}
    poisons["hardened"] = swept + [(NIGHTSHADE, widest, most, "hardened", 0)] * protocol.white_box
    others = [chosen.name for chosen in protocol.purifiers] + [SCAN] * (protocol.scan_rate > 0)
    poisons |= {name: [nightshade] for name in others}
    for seed, (defence, own) in itertools.product(protocol.seeds, poisons.items()):
        for poison, pair in itertools.product(own, protocol.pairs):
            yield Tuning(Poison(pair.concept, pair.target, *poison), defence, seed)


def sheet_name(condition: Condition, access: Access, defence: str) -> str:
    """The file name of the contact sheet of a row."""
    keys = ("concept", "target", "attack", "eps", "poisons")
    said = [*(str(condition[key]) for key in keys), access, defence, str(condition["seed"])]
    return "-".join(said).replace("/", "_").replace(" ", "_") + ".webp"


@holds("out")
def poisoning(
    pipeline: Pipeline,
    hardened: VAE,
    folder: Path,
    out: Path,
    clip: Clip,
    judge: Judge,
    protocol: PoisoningProtocol,
    listener: Listener | None = None,
) -> dict[str, Any]:
    """Run the poisoning benchmark on the class folders in `folder`, and return the result.

    Rows, and a contact sheet for each, are written to `out`. Fine-tunings are kept in `out`/cache and are not made again. If
    several processes run together, they share the fine-tunings, and all but the main one return {}.

    Raises InputError for concepts that the judge or the protocol does not know, and for folders with too few photographs.
    """
    check_concepts(protocol, judge.concepts)
    listener = listener or Listener()
    pipeline = pipeline.without_safety_checker()
    differences = told_differences(pipeline.vae, hardened, listener)
    pipelines = {"original": pipeline, "hardened": pipeline.with_vae(hardened)}
    claim_output(out, "poisoning", RESULT)
    automatic_precision()
    poisons = Poisons(pipelines, folder, clip, protocol, Cache(out / CACHE, protocol.batch_size, listener))
    poisons.left_out.write(out)
    sweep = Sweep(poisons, judge, out)
    planned = list(tunings(protocol))
    result = {**sweep.about(), "protocol": as_written(protocol), "versions": environment(), "points": len(planned)}
    result |= {"doubts": differences, "rows": []}
    make_poisons(poisons, planned)
    announce(poisons.cache.folder)
    return run_points(sweep, planned, result, out / RESULT, listener)


def make_poisons(poisons: Poisons, planned: list[Tuning]) -> None:
    """Make all poisons that the fine-tunings need. Processes share these images first, and the fine-tunings later."""
    most = max(poisons.protocol.counts)
    for poison in dict.fromkeys(replace(tuning.poison, number=most) for tuning in planned if tuning.poison.number):
        poisons.images(poison)


class Sweep:
    """The fine-tunings of a protocol. Each is measured once and kept with its contact sheet."""

    def __init__(self, poisons: Poisons, judge: Judge, out: Path):
        protocol = poisons.protocol
        self.poisons, self.cache, self.out = poisons, poisons.cache, out
        self._keys: dict[Tuning, str] = {}
        self.defences = TrainingDefences(poisons)
        self.tuner = Tuner(poisons, self.defences)
        counts = protocol.generated, protocol.others, protocol.denoising_steps
        self.poison_judge = PoisonJudge(judge, poisons.clip, poisons.words, *counts)
        self.networks = poisons.pipelines["original"].fingerprint()
        self.vaes = {name: pipe.vae.fingerprint() for name, pipe in poisons.pipelines.items()}
        settings = {key: value for key, value in asdict(protocol).items() if key not in SWEPT_SETTINGS}
        self.made_of: dict[str, Any] = {"settings": settings, "photographs": poisons.keys, "networks": self.networks}
        self.made_of |= {"judges": {"clip": poisons.clip.fingerprint(), "judge": judge.fingerprint()}}
        self.made_of |= {"sampling": poisons.pipelines["original"].settings()}

    def about(self) -> dict[str, Any]:
        """The part of a result that names the networks."""
        return {"benchmark": "poisoning", "networks": self.networks, "clip": self.poisons.clip.name, **self.vaes}

    def key(self, tuning: Tuning) -> str:
        """The key of a fine-tuning in the cache. The hardened VAE belongs to it only if the fine-tuning uses that VAE."""
        if tuning not in self._keys:
            self._keys[tuning] = self._key(tuning)
        return self._keys[tuning]

    def _key(self, tuning: Tuning) -> str:
        used = self.vaes if tuning.defence in USES_HARDENED else {"original": self.vaes["original"]}
        settings = self.defences.settings_of(tuning.defence)
        return key_of("poisoned", vaes=used, purifier=settings, tuning=asdict(tuning), **self.made_of)

    def measure(self, tuning: Tuning, listener: Listener) -> None:
        """Fine-tune and measure, unless that was done before, and copy the contact sheet to this run's sheets."""

        def make() -> tuple[dict[str, Any], Images]:
            measures, shown = self.poison_judge.measure(self.tuner.tuned(tuning, listener), tuning)
            return {name: asdict(found) for name, found in measures.items()}, shown

        access = tuning.poison.access(tuning.defence)
        sheet = self.out / SHEETS / sheet_name(tuning.condition(), access, tuning.defence)
        measure_once(self.cache, self.key(tuning), make, sheet)

    def rows(self, points: Sequence[Tuning]) -> list[Row]:
        """The rows of fine-tunings that are measured."""
        return [self._row(tuning) for tuning in points]

    def _row(self, tuning: Tuning) -> Row:
        record = self.cache.record_of(self.key(tuning), 0)
        seconds = Estimate(record.pop("seconds"), None, None, 1)
        measures = {**read_measures(record), "seconds": seconds}
        access = tuning.poison.access(tuning.defence)
        fell = [note["fell"] for note in self.poisons.notes(tuning.poison) if note["fell"] is not None]
        if fell:
            measures["fell"] = mean_estimate(torch.tensor(fell), seed=0)
        doubts = [doubt for note in self.poisons.notes(tuning.poison) for doubt in doubts_of(note)]
        return Row(tuning.condition(), access, tuning.defence, measures["target"].n, measures, doubts)


def doubts_of(note: dict[str, Any]) -> list[str]:
    """What speaks against believing a poisoned image, by the note that was kept with it."""
    if note["fell"] is None or note["fell"] <= CONVERGED:
        return note["doubts"]
    return [*note["doubts"], f"the objective still fell by {note['fell']:.0%} in the last quarter of the steps"]
