"""How well `srlvae scan` tells attacked photographs from clean ones: ROC curves over attacks and ε; and what it says of clean
pictures of other kinds.

    python recipes/scan.py --images caltech101-128/test --result results/scan-tiny.json
    python recipes/scan.py --images caltech101-128/test --result kinds-tiny.json --no-attacks

Attacked photographs are kept by what they were made from: a run that was cut off makes those that are missing. A picture of the
curves goes beside the result.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import matplotlib.figure
import torch
import typer
from rich.console import Console
from torch import Tensor
from torch.nn.functional import interpolate

from srlvae.bench.attacked import Attacker, photograph_set
from srlvae.bench.cache import Cache
from srlvae.bench.cells import CLEAN, Cell
from srlvae.bench.estimates import mean_estimate, share_estimate
from srlvae.bench.kinds import KINDS, of_kind
from srlvae.bench.photographs import load_photographs
from srlvae.bench.rows import Access, Condition, Row, access_of, as_data
from srlvae.cli.drawing import Bars
from srlvae.config import budget
from srlvae.files import write_json
from srlvae.metrics.roc import shares_below
from srlvae.models.load import load_pipeline
from srlvae.models.pipeline import Pipeline
from srlvae.models.vae import VAE, load_vae
from srlvae.provenance import environment
from srlvae.purify.signal import jpeg
from srlvae.report.rows import measured_value
from srlvae.report.scan_tables import AS_IT_COMES
from srlvae.scan import EVIDENCE, Calibration, calibrate_scan
from srlvae.scan.evidence import evidence
from srlvae.scan.likeness import likeness

# Fewer than published.
STEPS = {"photoguard-encoder": 50, "mist-textural": 50, "nightshade": 50, "glaze": 50}
EPS = (4 / 255, 8 / 255)
RATE, BATCH, SEED = 0.01, 8, 0
# What happens to images on their way, here to attacked and clean ones alike.
HANDLED: dict[str, Callable[[Tensor], Tensor]] = {
    "JPEG 75": lambda x: jpeg(x, generators=[], quality=75),
    "three quarters of the side": lambda x: interpolate(x, scale_factor=0.75, mode="bicubic", antialias=True).clamp(0, 1),
}


def attacked(cell: Cell, pipeline: Pipeline, x: Tensor, cache: Path) -> Tensor:
    with Bars(Console()) as bars:
        kept = Cache(cache, BATCH, bars)
        return Attacker({"original": pipeline}, STEPS.__getitem__, SEED, kept).images(cell, photograph_set(x)).images


def scan_row(condition: Condition, access: Access, values: dict[str, Tensor]) -> Row:
    """values: by measure, one an image; booleans are counted."""
    measures = {name: share_estimate(x) if x.dtype == torch.bool else mean_estimate(x, SEED) for name, x in values.items()}
    return Row(condition, access, "scan", len(next(iter(values.values()))), measures)


@dataclass(frozen=True)
class Tried:
    """What came of a handling: rows, and the scores that curves are drawn from. normal: the evidence in known clean images."""

    rows: list[Row]
    normal: Tensor
    clean: Tensor
    scores: dict[Cell, Tensor]
    calibration: Calibration


def tried(vaes: tuple[VAE, VAE], known: Tensor, clean: Tensor, y: dict[Cell, Tensor], handling: str) -> Tried:
    """Calibrated on clean images, tried on others and on attacked ones, by cell."""
    about, seen = {"handling": handling}, look(*vaes, known)
    calibration = calibrate_scan(*seen, RATE)
    negative, values = judged(calibration, *look(*vaes, clean))
    rows, scores = [scan_row({**CLEAN.condition(), **about}, "none", values)], {}
    for cell, images in y.items():
        scores[cell], values = judged(calibration, *look(*vaes, images))
        values = {"auroc": shares_below(scores[cell], negative), **values}
        rows.append(scan_row({**cell.condition(), **about}, access_of(cell.made_on, "scan"), values))
        auroc, found, unlike = (measured_value(rows[-1], name) for name in values)
        print(f"{cell}, {handling}: AUROC {auroc:.3f}, {found:.0%} found, {unlike:.0%} unlike", flush=True)
    return Tried(rows, seen[0], negative, scores, calibration)


def judged(calibration: Calibration, found: Tensor, traits: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Scores, and by measure whether each image is found suspicious or unlike the clean ones."""
    scores, reasons = calibration.judge(found, traits)
    unlike = torch.tensor([bool(reason) for reason in reasons])
    return scores, {"found": (scores > calibration.threshold) & ~unlike, "unlike": unlike}


def kind_rows(vaes: tuple[VAE, VAE], calibration: Calibration, x: Tensor) -> list[Row]:
    """What is said of the photographs `x` turned into clean pictures of other kinds."""
    rows = []
    for kind in KINDS:
        _, values = judged(calibration, *look(*vaes, of_kind(kind, x, SEED)))
        rows.append(scan_row({**CLEAN.condition(), "handling": AS_IT_COMES, "kind": kind}, "none", values))
        print(
            f"{kind}: {measured_value(rows[-1], 'found'):.0%} suspicious, {measured_value(rows[-1], 'unlike'):.0%} unlike",
            flush=True,
        )
    return rows


def look(original: VAE, hardened: VAE, x: Tensor) -> tuple[Tensor, Tensor]:
    """The columns of EVIDENCE and of TRAITS."""
    found = [(evidence(original, hardened, part), likeness(part)) for part in x.split(BATCH)]
    return torch.cat([evidence for evidence, _ in found]), torch.cat([traits for _, traits in found])


def draw(found: Tried, path: Path) -> None:
    """A panel an ε, a curve an attack: the share found over the share of clean photographs called suspicious."""
    figure = matplotlib.figure.Figure(figsize=(4 * len(EPS), 4), layout="constrained")
    thresholds, n = found.clean.sort(descending=True).values, len(found.clean)
    for axis, eps in zip(figure.subplots(1, len(EPS), sharey=True), EPS, strict=True):
        for cell, scores in found.scores.items():
            if cell.eps == eps:
                area = shares_below(scores, found.clean).mean().item()
                share = [(scores > threshold).float().mean().item() for threshold in thresholds]
                axis.plot(torch.arange(1, n + 1) / n, share, label=f"{cell.attack}, {area:.3f}")
        axis.set(title=f"ε {budget(eps)}", xlabel="clean photographs called suspicious", xscale="log")
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
    kinds: Annotated[int, typer.Option(help="Of those, how many are turned into each kind of other pictures.")] = 50,
    attacks: Annotated[bool, typer.Option(help="Attack photographs; without, only clean pictures are looked at.")] = True,
    only: Annotated[list[str] | None, typer.Option(help="Attacks; all by default.")] = None,
    cache: Annotated[Path, typer.Option(help="Folder for the attacked photographs.")] = Path("runs/scan"),
) -> None:
    pipeline = load_pipeline(original)
    vaes = pipeline.vae, load_vae(hardened)
    x = load_photographs(images, n + known + clean, pipeline.size, SEED)[0]
    x, *others = x.split([n, known, clean])
    cells = [Cell(name, eps, "original") for name, eps in itertools.product(only or STEPS, EPS if attacks else ())]
    y = {cell: attacked(cell, pipeline, x, cache) for cell in cells}
    found = tried(vaes, *others, y, AS_IT_COMES)
    rows = found.rows + kind_rows(vaes, found.calibration, others[1][:kinds])
    strong = {cell: images for cell, images in y.items() if cell.eps == max(EPS)}
    for handling, handled in HANDLED.items() if attacks else ():
        own = {cell: handled(images) for cell, images in strong.items()}
        rows = rows + tried(vaes, handled(others[0]), handled(others[1]), own, handling).rows
    about = {"benchmark": "scan", **{name: vae.fingerprint() for name, vae in zip(("original", "hardened"), vaes, strict=True)}}
    about |= {"n": n, "known": known, "clean": clean, "seed": SEED, "steps": STEPS, "rate": RATE, "evidence": EVIDENCE}
    write_json(result, {**about, "versions": environment(), "normal": found.normal.tolist(), "rows": as_data(rows)})
    if attacks:
        draw(found, result.with_suffix(".png"))


if __name__ == "__main__":
    typer.run(main)
