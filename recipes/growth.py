"""How what things cost grows: with the side of images, with images at once, with the size of a set, and with shards.

    python recipes/growth.py --images caltech101-128/test --to results/growth.json

Sizes take turns in every round, on `tiny`; seconds are those of processors, and medians. Take OMP_NUM_THREADS=1.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import Tensor
from torch.nn.functional import interpolate

from scan_shards import crops, pack
from srlvae.attacks import ATTACKS
from srlvae.attacks.engine.ball import Ball
from srlvae.bench.photographs import load_photographs
from srlvae.bench.rows import as_data
from srlvae.files import write_json
from srlvae.metrics.frechet import frechet_distance
from srlvae.metrics.kernel import kernel_distance
from srlvae.models.vae import VAE, load_vae
from srlvae.provenance import environment
from srlvae.rng import generators
from srlvae.scan import Encoders
from srlvae.speed.rounds import Work, processor_seconds, rows_of_work

SIDES, AT_ONCE, SETS, SHARDS = (64, 96, 128, 192, 256), (1, 2, 4, 8, 16), (250, 500, 1000, 2000), (2, 4, 8, 16)
# Features of the width of Inception's last layer but one; pictures of a shard, and their side.
WIDTH, PICTURES, SIDE = 2048, 64, 32


def attack(vae: VAE, x: Tensor) -> object:
    draws = generators(0, range(len(x)))
    return ATTACKS["photoguard-encoder"].run(x, vae=vae, generators=draws, ball=Ball(16 / 255, 5, 2 / 255))


def of_images(x: Tensor) -> Iterator[Work]:
    """Attacks and scans, over the side of four images and over images of 128 pixels at once."""
    vae, hardened = load_vae("tiny"), load_vae("tiny-srl")
    encoders = Encoders(vae, hardened)
    sides = {side: interpolate(x[:4], (side, side), mode="bicubic", antialias=True).clamp(0, 1) for side in SIDES}
    works: dict[str, Callable[[Tensor], object]] = {"PhotoGuard, 5 steps": partial(attack, vae), "scan": encoders.look}
    for name, run in works.items():
        yield Work(f"{name}: side in pixels", 1, {str(side): partial(run, y) for side, y in sides.items()})
        yield Work(f"{name}: images at once", 1, {str(n): partial(run, x[:n]) for n in AT_ONCE})


def of_sets() -> Iterator[Work]:
    """Distances between two sets, over the images in each."""
    draws = torch.Generator().manual_seed(0)
    one, other = (torch.randn(max(SETS), WIDTH, generator=draws) for _ in range(2))
    for name, distance in (("Fréchet distance", frechet_distance), ("KID", kernel_distance)):
        yield Work(f"{name}: images in a set", 1, {str(n): partial(distance, one[:n], other[:n]) for n in SETS})


def of_shards(images: Path, place: Path) -> Work:
    """The command `srlvae scan`, over the number of shards."""
    clean, ways = place / "clean", {}
    clean.mkdir()
    for number, picture in zip(range(60), crops(images, SIDE, 1), strict=False):
        picture.save(clean / f"{number}.png")
    for count in SHARDS:
        pack(crops(images, SIDE, 0), place / str(count), count, PICTURES)
        ways[str(count)] = partial(scanned, place / str(count), clean)
    return Work(f"srlvae scan: shards of {PICTURES} pictures", 1, ways)


def scanned(shards: Path, clean: Path) -> None:
    with tempfile.TemporaryDirectory() as out:
        words = ["scan", f"{shards}/*.tar", "--clean", str(clean), "--rate", "0.05", "--out", out]
        subprocess.run([sys.executable, "-m", "srlvae", *words], check=True, stdout=subprocess.DEVNULL)


def main(
    images: Annotated[Path, typer.Option(help="A folder of photographs.")],
    to: Annotated[Path, typer.Option(help="The JSON that is written.")],
    rounds: Annotated[int, typer.Option(help="How often each size has a turn.")] = 5,
) -> None:
    x, _ = load_photographs(images, max(AT_ONCE), 128, 0)
    result: dict = {"benchmark": "growth", "threads": torch.get_num_threads(), "versions": environment(), "rows": []}
    with tempfile.TemporaryDirectory() as place:
        for work in (*of_images(x), *of_sets(), of_shards(images, Path(place))):
            result["rows"] += as_data(rows_of_work(work, rounds, processor_seconds))
            write_json(to, result)
            print(work.name, flush=True)


if __name__ == "__main__":
    typer.run(main)
