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
from dataclasses import asdict
from pathlib import Path

from accelerate import PartialState

from srlvae.bench.cache import Store, beat, key_of, wait_for
from srlvae.bench.poisoned import SCAN, Point, Poisoning
from srlvae.bench.protocol import PoisoningProtocol
from srlvae.files import write_json
from srlvae.finetune import Stepped
from srlvae.images import tile, write_image
from srlvae.metrics.clip import Clip
from srlvae.metrics.judge import Judge
from srlvae.models.pipeline import Pipeline
from srlvae.models.vae import VAE
from srlvae.provenance import versions

RESULT, CACHE, SHEETS = "poisoning.json", "cache", "sheets"
# Defences that the hardened VAE takes part in.
WITH_HARDENED = ("hardened", SCAN)
# What a point says itself, and names of networks, whose weights count: a longer sweep keeps what a shorter one made.
SWEPT = ("pairs", "counts", "eps", "kinds", "seeds", "purifiers", "pipeline", "hardened")


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
