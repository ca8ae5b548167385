"""What is left of an attack, and of its detection, when the attacker knows the scan: he minimises its score with his own
objective, which λ weighs.

    python recipes/scan_knows.py --images caltech101-128/test --result results/scan-knows-tiny.json

The weights were chosen on training photographs, `--images caltech101-128/train`. All of them are published: there is no best
one, as each gives up more of the damage for less of the detection. A weight of 0 is the attack that does not know.

Attacked photographs and their evidence are kept by what they were made from: a run that was cut off makes those that are
missing. Several runs, each with another attack as `--only`, may work in one cache at a time.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from torch import Tensor

from scan import judged, scan_row
from srlvae.bench.attacked import Attacker, ImageSet, attacked_images, photograph_set
from srlvae.bench.cache import Cache, key_of
from srlvae.bench.cells import CLEAN, Cell
from srlvae.bench.photographs import load_photographs
from srlvae.bench.rows import VAE_OF, Row, access_of, as_data
from srlvae.cli.drawing import Bars
from srlvae.files import write_json
from srlvae.metrics.pairwise import squared_shift
from srlvae.metrics.roc import shares_below
from srlvae.models.vae import VAE, load_vae
from srlvae.precision import computing, settled
from srlvae.provenance import environment
from srlvae.report.rows import measured_value
from srlvae.scan import EVIDENCE, Calibration, calibrate_scan
from srlvae.scan.evading import Evading
from srlvae.scan.evidence import evidence
from srlvae.scan.likeness import likeness

# By attack and ε, λ in units of the objective: the norm of a latent for PhotoGuard, a sum of squares for Mist.
WEIGHTS = {
    ("photoguard-encoder", 8 / 255): (0.0, 0.1, 1.0),
    ("photoguard-encoder", 15 / 255): (0.0, 1.0),
    ("mist-textural", 8 / 255): (0.0, 30.0, 100.0),
    ("mist-textural", 15 / 255): (0.0, 100.0),
}
RATE, BATCH, SIZE, SEED = 0.01, 8, 128, 0


@dataclass(frozen=True)
class Measured:
    """The two VAEs by name, and the scan that photographs are put to: calibrated, and tried on other clean ones."""

    vaes: dict[str, VAE]
    attacker: Attacker
    precision: str

    def look(self, given: ImageSet) -> tuple[Tensor, Tensor]:
        """The columns of EVIDENCE, which are kept, and of TRAITS."""
        about = {"precision": self.precision, **{name: vae.fingerprint() for name, vae in self.vaes.items()}}

        def seen(i: int) -> list[float]:
            with computing(self.precision, given.images.device):
                return evidence(self.vaes["original"], self.vaes["hardened"], given.images[i : i + 1])[0].tolist()

        record = self.attacker.cache.record
        found = [record(key_of("looked", **about, source=key), partial(seen, i)) for i, key in enumerate(given.keys)]
        return torch.tensor(found), torch.cat([likeness(part) for part in given.images.split(BATCH)])

    def attacked(self, cell: Cell, weight: float, clean: ImageSet, calibration: Calibration) -> ImageSet:
        attack = self.attacker.prepared(cell)
        request = replace(attack.request, precision=self.precision)
        knows = Evading(self.vaes["original"], self.vaes["hardened"], calibration, weight)
        return attacked_images(replace(attack, request=request, knows=knows), clean, self.attacker.cache)

    def shifts(self, given: ImageSet, clean: ImageSet) -> dict[str, Tensor]:
        """By VAE, the shift of each image's latent relative to the norm of the clean one; they are kept."""
        return {name: self.shift(vae, given, clean) for name, vae in self.vaes.items()}

    def shift(self, vae: VAE, given: ImageSet, clean: ImageSet) -> Tensor:
        fingerprint, record = vae.fingerprint(), self.attacker.cache.record

        def measured(i: int) -> float:
            with torch.no_grad():
                moved, reference = (vae.mean(images[i : i + 1]) for images in (given.images, clean.images))
            return squared_shift(moved, reference).sqrt().item()

        pairs = enumerate(zip(given.keys, clean.keys, strict=True))
        keys = [(i, key_of("looked", vae=fingerprint, source=key, clean=own)) for i, (key, own) in pairs]
        return torch.tensor([record(key, partial(measured, i)) for i, key in keys])


def knowing_rows(measured: Measured, cell: Cell, clean: ImageSet, calibration: Calibration, negative: Tensor) -> list[Row]:
    """For each weight, what the scan finds, and the shift of both encoders' latents beside that of the attack as it is."""
    rows, plain = [], dict[str, Tensor]()
    for weight in WEIGHTS[cell.attack, cell.eps]:
        given = measured.attacked(cell, weight, clean, calibration)
        scores, values = judged(calibration, *measured.look(given))
        condition = {**cell.condition(), "weight": weight}
        values = {"auroc": shares_below(scores, negative), "score": scores, **values}
        rows.append(scan_row(condition, "white-box" if weight else "transfer", values))
        shifts = measured.shifts(given, clean)
        plain = plain or shifts
        for defence, name in VAE_OF.items():
            kept = {"shift": shifts[name], "kept": shifts[name] / plain[name]}
            rows.append(replace(scan_row(condition, access_of("original", defence), kept), defence=defence))
        auroc, found, unlike = (measured_value(rows[-3], name) for name in ("auroc", "found", "unlike"))
        kept = " and ".join(f"{measured_value(row, 'kept'):.0%}" for row in rows[-2:])
        print(f"{cell}, λ {weight:g}: AUROC {auroc:.3f}, {found:.0%} found, {unlike:.0%} unlike, shifts {kept}", flush=True)
    return rows


def main(
    images: Annotated[Path, typer.Option(help="Photographs that neither VAE was trained on.")],
    result: Annotated[Path, typer.Option(help="JSON of the rows.")],
    original: Annotated[str, typer.Option(help="The VAE that is attacked.")] = "tiny",
    hardened: Annotated[str, typer.Option(help="Its hardened VAE.")] = "tiny-srl",
    n: Annotated[int, typer.Option(help="Photographs attacked.")] = 40,
    known: Annotated[int, typer.Option(help="Other photographs, clean: what is normal, and the threshold.")] = 300,
    clean: Annotated[int, typer.Option(help="Yet others, clean: the negatives.")] = 100,
    steps: Annotated[int, typer.Option(help="Steps of the attacks.")] = 20,
    only: Annotated[list[str] | None, typer.Option(help="Attacks; all by default.")] = None,
    precision: Annotated[str, typer.Option(help="Of attacks and scan: auto, no, bf16.")] = "auto",
    cache: Annotated[Path, typer.Option(help="Folder for attacked photographs and evidence.")] = Path("runs/scan-knows"),
) -> None:
    vaes = {"original": load_vae(original), "hardened": load_vae(hardened)}
    x = load_photographs(images, n + known + clean, SIZE, SEED)[0]
    attacked, normal, negatives = (photograph_set(part) for part in x.split([n, known, clean]))
    with Bars(Console()) as bars:
        attacker = Attacker(vaes, lambda attack: steps, SEED, Cache(cache, BATCH, bars))
        measured = Measured(vaes, attacker, settled(precision))
        seen = measured.look(normal)
        calibration = calibrate_scan(*seen, RATE)
        negative, values = judged(calibration, *measured.look(negatives))
        rows = [scan_row(CLEAN.condition(), "none", values)]
        for name, eps in WEIGHTS:
            if name in (only or [name]):
                rows += knowing_rows(measured, Cell(name, eps, "original"), attacked, calibration, negative)
    about = {"benchmark": "scan", **{name: vae.fingerprint() for name, vae in vaes.items()}, "n": n, "known": known}
    about |= {"clean": clean, "seed": SEED, "steps": steps, "precision": settled(precision), "rate": RATE, "evidence": EVIDENCE}
    # Without the folders that these lie in on this machine.
    options = (f"--{name} {path.parent.name}/{path.name}" for name, path in (("images", images), ("result", result)))
    about |= {"command": " ".join(["python recipes/scan_knows.py", *options]), "versions": environment()}
    write_json(result, {**about, "normal": seen[0].tolist(), "rows": as_data(rows)})


if __name__ == "__main__":
    typer.run(main)
