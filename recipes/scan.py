"""How well `srlvae scan` tells attacked photographs from clean ones: ROC curves over attacks and ε.

    python recipes/scan.py --images caltech101-128/test --result results/scan-tiny.json

Attacked photographs are kept by what they were made from: a run that was cut off makes those that are missing. A picture of the
curves goes beside the result.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import matplotlib.figure
import torch
import typer
from rich.progress import Progress
from torch import Tensor
from torch.nn.functional import interpolate

from srlvae.attacks.prepared import prepare
from srlvae.attacks.request import Request
from srlvae.bench.cache import Store, key_of_image
from srlvae.bench.perturbed import perturbed
from srlvae.bench.photographs import load_photographs
from srlvae.files import write_json
from srlvae.metrics.bootstrap import bootstrap_interval
from srlvae.models.load import load_pipeline
from srlvae.models.pipeline import Pipeline
from srlvae.models.vae import VAE, load_vae
from srlvae.provenance import versions
from srlvae.purify.signal import jpeg
from srlvae.scan import EVIDENCE, calibrate
from srlvae.scan.evidence import evidence

# Fewer than published.
STEPS = {"photoguard-encoder": 50, "mist-textural": 50, "nightshade": 50, "glaze": 50}
EPS = (4, 8)
RATE, BATCH, SEED = 0.01, 8, 0
# What happens to images on their way, here to attacked and clean ones alike.
HANDLED: dict[str, Callable[[Tensor], Tensor]] = {
    "JPEG 75": lambda x: jpeg(x, generators=[], quality=75),
    "three quarters of the side": lambda x: interpolate(x, scale_factor=0.75, mode="bicubic", antialias=True).clamp(0, 1),
}


def attacked(name: str, eps: int, pipeline: Pipeline, x: Tensor, cache: Path) -> Tensor:
    attack = prepare(Request(name, eps=eps / 255, steps=STEPS[name]), pipeline)
    with Progress() as progress:
        bar = progress.add_task(f"{name} {eps}/255", total=len(x))
        store = Store(cache, BATCH, lambda count: progress.advance(bar, count))
        return perturbed(attack, x, [key_of_image(image) for image in x], store)[1]


def shares_below(positive: Tensor, negative: Tensor) -> Tensor:
    """Of each positive, the share of negatives below it, ties counted half; their mean is the area under the curve
    (Mann and Whitney 1947)."""
    above = (positive[:, None] > negative).double() + 0.5 * (positive[:, None] == negative).double()
    return above.mean(1)


def measure(positive: Tensor, negative: Tensor, threshold: float) -> dict:
    shares = shares_below(positive, negative)
    found = (positive > threshold).double()
    measured = {"auroc": shares.mean().item(), "found": found.mean().item(), "scores": positive.tolist()}
    for name, values in (("auroc", shares), ("found", found)):
        measured[f"{name}_interval"] = list(bootstrap_interval(values, torch.Generator().manual_seed(0)))
    return measured


def tried(original: VAE, hardened: VAE, known: Tensor, clean: Tensor, y: dict[str, Tensor]) -> dict:
    """Calibrated on clean images, tried on others and on attacked ones, by row."""
    seen = [look(original, hardened, x) for x in (known, clean)]
    normal, threshold = calibrate(seen[0], RATE)
    negative = normal.scores(seen[1])
    found = {"normal": seen[0].tolist(), "clean": negative.tolist()}
    found |= {"clean called suspicious": (negative > threshold).double().mean().item(), "rows": {}}
    for row, images in y.items():
        made = found["rows"][row] = measure(normal.scores(look(original, hardened, images)), negative, threshold)
        print(f"{row}: AUROC {made['auroc']:.3f}, {made['found']:.0%} found at {RATE:.0%} false positives", flush=True)
    return found


def look(original: VAE, hardened: VAE, x: Tensor) -> Tensor:
    return torch.cat([evidence(original, hardened, part) for part in x.split(BATCH)])


def draw(result: dict, path: Path) -> None:
    figure = matplotlib.figure.Figure(figsize=(4 * len(EPS), 4), layout="constrained")
    negative = result["clean"]
    thresholds = sorted(negative, reverse=True)
    for axis, eps in zip(figure.subplots(1, len(EPS), sharey=True), EPS, strict=True):
        for name in STEPS:
            if row := result["rows"].get(f"{name} {eps}/255"):
                share = [(torch.tensor(row["scores"]) > t).float().mean().item() for t in thresholds]
                axis.plot(torch.arange(1, len(negative) + 1) / len(negative), share, label=f"{name}, {row['auroc']:.3f}")
        axis.set(title=f"ε {eps}/255", xlabel="clean photographs called suspicious", xscale="log")
        axis.legend(title="area under the curve", loc="lower right")
        axis.grid(alpha=0.3)
    figure.supylabel("attacked photographs found")
    figure.savefig(path, dpi=110)


def main(
    images: Annotated[Path, typer.Option(help="Photographs that neither VAE was trained on.")],
    result: Annotated[Path, typer.Option(help="JSON of the rows.")],
    original: Annotated[str, typer.Option(help="A pipeline; its VAE is attacked.")] = "tiny-sd",
    hardened: Annotated[str, typer.Option(help="Its hardened VAE.")] = "tiny-srl",
    n: Annotated[int, typer.Option(help="Photographs attacked.")] = 32,
    known: Annotated[int, typer.Option(help="Other photographs, clean: what is normal, and the threshold.")] = 300,
    clean: Annotated[int, typer.Option(help="Yet others, clean: the negatives.")] = 500,
    only: Annotated[list[str] | None, typer.Option(help="Attacks; all by default.")] = None,
    cache: Annotated[Path, typer.Option(help="Folder for the attacked photographs.")] = Path("runs/scan"),
) -> None:
    pipeline, own = load_pipeline(original), load_vae(hardened)
    vaes = pipeline.vae, own
    x = load_photographs(images, n + known + clean, pipeline.size, SEED)[0]
    x, *others = x.split([n, known, clean])
    kinds = list(itertools.product(only or STEPS, EPS))
    y = {f"{name} {eps}/255": attacked(name, eps, pipeline, x, cache) for name, eps in kinds}
    strong = {row: images for row, images in y.items() if row.endswith(f" {max(EPS)}/255")}
    table: dict = {"original": pipeline.vae.fingerprint(), "hardened": own.fingerprint(), "n": n, "known": known, "seed": SEED}
    table |= {"steps": STEPS, "rate": RATE, "evidence": EVIDENCE, "versions": versions(), **tried(*vaes, *others, y)}
    table["handled"] = {}
    for handling, handled in HANDLED.items():
        own_rows = {row: handled(images) for row, images in strong.items()}
        table["handled"][handling] = tried(*vaes, *(handled(images) for images in others), own_rows)
    write_json(result, table)
    draw(table, result.with_suffix(".png"))


if __name__ == "__main__":
    typer.run(main)
