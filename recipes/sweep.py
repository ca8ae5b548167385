"""Find the settings: hardening runs of equal compute, over the ablations and over single settings.

    python recipes/sweep.py --vae tiny --images caltech101-128/train --out runs/sweep-tiny --result results/sweep-tiny.json

Every row gets `--minutes` of processor time, counted after a few steps have told what a step costs. Every 40th photograph of
the folder is set apart and judged on, by EfficientNet-Lite1, which no row trains on. A row that is done is not run again.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import time
from pathlib import Path
from typing import Annotated

import torch
import typer

from srlvae.attacks.photoguard import photoguard_encoder
from srlvae.errors import InputError
from srlvae.files import write_json
from srlvae.harden import OBJECTIVES, HardenConfig, Listener, harden, preset
from srlvae.harden.data import FolderPhotographs
from srlvae.harden.scores import attack_both, score
from srlvae.images import read_square
from srlvae.metrics.features import load_features
from srlvae.metrics.frechet import frechet_distance
from srlvae.precision import bf16_pays
from srlvae.rng import generators
from srlvae.vae import VAE, load_vae
from srlvae.versions import versions

# Without attacks on the original encoder, but where a row's name says so.
BASE = preset("cpu")
BASE = dataclasses.replace(BASE, objective=dataclasses.replace(BASE.objective, inner=("reconstruction", "latent")))
PROBE = 12


def objective(base: HardenConfig = BASE, **changes) -> HardenConfig:
    return dataclasses.replace(base, objective=dataclasses.replace(base.objective, **changes))


LATENTS = preset("cpu", "latents")


ROWS: dict[str, HardenConfig] = {
    "reconstruction and latent": BASE,
    # Which attacks images take turns at.
    "and targeted and transfer": objective(inner=("reconstruction", "latent", "targeted", "transfer")),
    "half transfer, and both": objective(inner=("transfer", "reconstruction", "transfer", "latent")),
    "three quarters transfer, and targeted": objective(inner=("transfer", "transfer", "transfer", "targeted")),
    # The ablations of the field.
    **{name: preset("cpu", name) for name in OBJECTIVES if name != "srlvae"},
    "inner attack on reconstructions only": objective(inner=("reconstruction",)),
    "inner attack on latents only": objective(inner=("latent",)),
    "originality on clean images only": objective(originality_attacked=0.0),
    "originality on attacked images only": objective(originality_clean=0.0),
    "latents, clean ones held half as hard": objective(LATENTS, originality_clean=0.5),
    "latents, clean ones held twice as hard": objective(LATENTS, originality_clean=2.0),
    "latents, transfer alone": objective(LATENTS, inner=("transfer",)),
    "latents, and targeted, all at 16/255": objective(
        LATENTS, inner=("transfer", "latent", "transfer", "targeted"), latent_eps=16 / 255
    ),
    "latents, transfer at 10/255": objective(LATENTS, eps=10 / 255),
    "latents, 1 attack step": objective(LATENTS, steps=1, step_size=1.0),
    "latents, nothing decoded": objective(LATENTS, clean=0.0, detail=0.0),
    # One setting at a time.
    "no perceptual term": objective(perceptual=0.0, perceptual_attacked=0.0),
    "perceptual term halved": objective(perceptual=BASE.objective.perceptual / 2),
    "perceptual term doubled": objective(perceptual=BASE.objective.perceptual * 2),
    "perceptual term over all stages": objective(stages=5),
    "no detail term": objective(detail=0.0),
    "detail term × 5": objective(detail=5 * BASE.objective.detail),
    "ε 8/255 on reconstructions": objective(eps=8 / 255),
    "ε 14/255 on latents": objective(latent_eps=14 / 255),
    "1 attack step": objective(steps=1, step_size=1.0),
    "4 attack steps": objective(steps=4, step_size=0.5),
    "β × 3": objective(
        originality_clean=3 * BASE.objective.originality_clean,
        originality_attacked=3 * BASE.objective.originality_attacked,
    ),
    "attacked images weigh half": objective(attacked=BASE.objective.attacked / 2),
    "attacked images weigh double": objective(attacked=2 * BASE.objective.attacked),
    "no blend": dataclasses.replace(BASE, blend=1.0),
    "learning rate × 2": dataclasses.replace(BASE, learning_rate=2 * BASE.learning_rate),
    "learning rate / 2": dataclasses.replace(BASE, learning_rate=BASE.learning_rate / 2),
    "crops of 64, batches of 16": dataclasses.replace(BASE, resolution=64, batch_size=16),
    "whole images, batches of 4": dataclasses.replace(BASE, resolution=128, batch_size=4),
}


class Subset(FolderPhotographs):
    """The photographs of a folder that are, or are not, among every 40th."""

    def __init__(self, folder: Path, held_out: bool):
        super().__init__(folder, at_least=256)
        self.paths = [path for i, path in enumerate(self.paths) if (i % 40 == 0) == held_out]


def steps_for(vae: str, photographs: Subset, folder: Path, config: HardenConfig, minutes: float) -> int:
    """How many steps `minutes` of processor time pay for."""
    clocks: list[float] = []

    class Clock(Listener):
        def stepped(self, step, losses):
            clocks.append(time.process_time())

        def should_stop(self):
            return len(clocks) == PROBE

    try:
        harden(vae, photographs, folder, dataclasses.replace(config, steps=10**4), listener=Clock())
    except KeyboardInterrupt:
        shutil.rmtree(folder)
    return max(PROBE, round(minutes * 60 * (PROBE - 3) / (clocks[-1] - clocks[2])))


@torch.no_grad()
def fidelity(vae: VAE, x: torch.Tensor) -> float:
    judge = load_features("efficientnet-lite1")
    real = torch.cat([judge.pooled(part) for part in x.split(16)])
    fake = torch.cat([judge.pooled(vae.reconstruct(part)) for part in x.split(16)])
    return frechet_distance(fake, real)


def pull(vae: VAE, x: torch.Tensor) -> torch.Tensor:
    """PhotoGuard's encoder attack at 15/255, which pulls latents to zero, in 40 steps."""
    eps, draws = 15 / 255, generators(0, range(len(x)))
    parts = [slice(i, i + 8) for i in range(0, len(x), 8)]
    return torch.cat(
        [photoguard_encoder(x[p], vae=vae, eps=eps, steps=40, step_size=eps / 8, generators=draws[p]) for p in parts]
    )


@torch.no_grad()
def moved(vae: VAE, attacked: torch.Tensor, latents: torch.Tensor) -> float:
    return (vae.mean(attacked) - latents).square().mean((1, 2, 3)).sqrt().mean().item()


COLUMNS = {
    "psnr_clean": "clean dB",
    "features_clean": "Lite1 distance",
    "frechet_clean": "Lite1 Fréchet",
    "psnr_transfer": "attacked 15/255, transfer dB",
    "psnr_white_box": "white-box dB",
    "moved_clean": "clean shift",
    "shift_transfer": "shift 8/255, transfer",
    "shift_white_box": "white-box",
    "pulled_transfer": "shift PhotoGuard 15/255, transfer",
    "pulled_white_box": "white-box",
}


def _shown(key: str, value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}" if key.startswith("psnr") else f"{value:.3g}"


def as_markdown(table: dict) -> str:
    """The rows beside the original, for the docs."""
    rows = {"original": table["original"]} | {name: row["scores"] for name, row in table["rows"].items()}
    lines = [["", *COLUMNS.values()], ["---"] * (len(COLUMNS) + 1)]
    lines += [[name, *(_shown(key, scores.get(key)) for key in COLUMNS)] for name, scores in rows.items()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main(
    vae: Annotated[str, typer.Option(help="What to harden.")],
    images: Annotated[Path, typer.Option(help="Training photographs of 128 pixels, at any depth.")],
    out: Annotated[Path, typer.Option(help="Folder for the runs.")],
    result: Annotated[Path, typer.Option(help="JSON of the rows.")],
    minutes: Annotated[float, typer.Option(help="Processor minutes a row.")] = 4,
    only: Annotated[list[str] | None, typer.Option(help="Rows to run; all by default.")] = None,
    attacked: Annotated[int, typer.Option(help="Photographs attacked for the scores.")] = 48,
) -> None:
    training, judged = Subset(images, held_out=False), Subset(images, held_out=True)
    x = torch.stack([read_square(path, 128) for path in judged.paths])
    original, judge = load_vae(vae), load_features("efficientnet-lite1")
    precision = torch.autocast("cpu", torch.bfloat16, enabled=bf16_pays())
    with precision:
        transfer = attack_both(original, x[:attacked], seed=0)
        pulled, latents = pull(original, x[:attacked]), original.mean(x[:attacked])
    table = json.loads(result.read_text()) if result.exists() else {"rows": {}}
    table |= {"vae": original.fingerprint(), "minutes": minutes, "attacked": attacked, "clean": len(x), "versions": versions()}

    def scores(hardened: VAE) -> dict:
        with precision:
            own = transfer if hardened is original else attack_both(hardened, x[:attacked], seed=0)
            own_pulled = pulled if hardened is original else pull(hardened, x[:attacked])
        sets = {"moved_clean": x[:attacked], "pulled_transfer": pulled, "pulled_white_box": own_pulled}
        shifts = {name: moved(hardened, images, latents) for name, images in sets.items()}
        clean = score(hardened, x[:attacked], transfer, own, judge)
        return dataclasses.asdict(clean) | {"frechet_clean": fidelity(hardened, x)} | shifts

    table.setdefault("original", scores(original))
    for name, config in ROWS.items():
        if name in table["rows"] or (only and name not in only):
            continue
        folder = out / name.replace(" ", "_").replace("/", "-")
        steps = steps_for(vae, training, folder, config, minutes)
        config = dataclasses.replace(config, steps=steps, held_out=8, checkpoint_every=steps)
        hardened = harden(vae, training, folder, config)
        table["rows"][name] = {"config": dataclasses.asdict(config), "scores": scores(hardened)}
        write_json(result, table)
        print(f"{name}: {steps} steps", flush=True)
    print(as_markdown(table))


if __name__ == "__main__":
    try:
        typer.run(main)
    except InputError as error:
        raise SystemExit(str(error)) from error
