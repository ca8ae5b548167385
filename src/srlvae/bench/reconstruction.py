"""What attacks do to D(E(x)): the original VAE beside the hardened one, clean and attacked, transfer and white-box, over ε.

The attacked image is x′, always compared with the *clean* x. Shift is ‖E(x′) − E₀(x)‖ / ‖E₀(x)‖, E₀ the original encoder: in
the clean row of the hardened one it is how far hardening itself moved latents. Fréchet distances are between the
reconstructions of all images and the clean images, and biased upwards for few images: compare
them at equal n only. `noise` is uniform noise of the same ε: what an attack must beat to deserve its name.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from srlvae.attacks import ATTACKS
from srlvae.attacks.engine.ball import Ball
from srlvae.bench.photographs import load_photographs
from srlvae.bench.protocol import RECONSTRUCTION, Cell, ReconstructionProtocol
from srlvae.files import write_json
from srlvae.images import Images, tile, write_image
from srlvae.metrics.bootstrap import bootstrap_interval
from srlvae.metrics.features import Features, load_features
from srlvae.metrics.frechet import frechet_distance
from srlvae.metrics.kernel import kernel_distance
from srlvae.metrics.pairwise import feature_distance, psnr, squared_shift, ssim
from srlvae.models.vae import VAE
from srlvae.provenance import versions
from srlvae.rng import generators, uniform_like
from srlvae.runs import begun

RESULT, GRID = "reconstruction.json", "grid.png"


def judged(cell: Cell) -> list[tuple[str, str]]:
    """(VAE, setting) pairs whose numbers a set gives."""
    if cell.made_on == "":
        return [("original", "any"), ("hardened", "any")]
    if cell.made_on == "original":
        return [("original", "white-box"), ("hardened", "transfer")]
    return [("hardened", "white-box")]


def cells(protocol: ReconstructionProtocol) -> list[Cell]:
    attacked = [Cell(attack, eps, on) for attack in protocol.attacks for eps in protocol.eps for on in ("original", "hardened")]
    return [Cell("none", 0, ""), *(Cell("noise", eps, "") for eps in protocol.eps), *attacked]


def reconstruction(
    original: VAE,
    hardened: VAE,
    folder: Path,
    out: Path,
    protocol: ReconstructionProtocol = RECONSTRUCTION["full"],
    done: Callable[[Cell, int, int], None] = lambda cell, number, total: None,
) -> dict:
    """Run the benchmark on the photographs in `folder`; write rows and the picture grid to `out`, and return what is written.

    Finished cells are kept in `out`: a run that was cut off goes on where it stopped. `done` is told of each.
    Raises: InputError for unusable images, or an `out` that holds another run's rows.
    """
    count = max(protocol.images, protocol.clean_images)
    x, names = load_photographs(folder, count, protocol.size, protocol.seed)
    result = {
        "benchmark": "reconstruction",
        "original": original.fingerprint(),
        "hardened": hardened.fingerprint(),
        "protocol": json.loads(json.dumps(asdict(protocol))),
        "images": names,
        "versions": versions(),
        "rows": [],
    }
    result["rows"] = (begun(out, RESULT, result, free=("rows", "versions")) or result)["rows"]
    judge = Judge({"original": original, "hardened": hardened}, x, protocol)
    plan = cells(protocol)
    for number, cell in enumerate(plan, 1):
        if not any(_belongs(row, cell) for row in result["rows"]):
            attacked = judge.attack(cell)
            result["rows"] += [judge.row(cell, vae, setting, attacked) for vae, setting in judged(cell)]
            write_json(out / RESULT, result)
        done(cell, number, len(plan))
    write_grid(out / GRID, original, hardened, x[:6], protocol)
    return result


def _belongs(row: dict, cell: Cell) -> bool:
    return (row["attack"], row["eps"], row["made_on"]) == (cell.attack, cell.eps, cell.made_on)


class Judge:
    """The VAEs, the clean images, and all that is known of them once: latents, feature columns, pooled vectors."""

    def __init__(self, vaes: dict[str, VAE], x: Images, protocol: ReconstructionProtocol):
        self.vaes, self.x, self.protocol = vaes, x, protocol
        self.features: list[Features] = [load_features(name) for name in protocol.features]
        with torch.no_grad():
            self.latents = self._chunked(vaes["original"].mean, x)
            self.pooled = {net.name: self._chunked(net.pooled, x) for net in self.features}

    def _chunked(self, function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        return torch.cat([function(part) for part in x.split(self.protocol.batch_size)])

    def attack(self, cell: Cell) -> Images:
        eps, steps = cell.eps / 255, self.protocol.steps
        if cell.attack == "none":
            return self.x
        x = self.x[: self.protocol.images]

        def attacked() -> Iterator[Images]:
            for start in range(0, len(x), self.protocol.batch_size):
                part = x[start : start + self.protocol.batch_size]
                draws = generators(self.protocol.seed, range(start, start + len(part)))
                if cell.attack == "noise":
                    yield (part + eps * uniform_like(part, draws)).clamp(0, 1)
                else:
                    run, vae = ATTACKS[cell.attack].run, self.vaes[cell.made_on]
                    yield run(part, vae=vae, ball=Ball.crossed(eps, steps), generators=draws)

        return torch.cat(list(attacked()))

    @torch.no_grad()
    def row(self, cell: Cell, name: str, setting: str, attacked: Images) -> dict:
        """The numbers of the VAE called `name` on a set of attacked images, means with 95 % bootstrap intervals."""
        n = len(attacked)
        vae, x = self.vaes[name], self.x[:n]
        latents = self._chunked(vae.mean, attacked)
        y = self._chunked(lambda z: vae.decode(z).clamp(0, 1), latents)
        measured = {
            "psnr": psnr(y, x),
            "ssim": ssim(y, x),
            "shift": squared_shift(latents, self.latents[:n]).sqrt(),
        }
        numbers = torch.arange(n)
        row: dict = {"vae": name, "setting": setting, **asdict(cell), "n": n}
        for net in self.features:
            pairs = zip(y.split(self.protocol.batch_size), x.split(self.protocol.batch_size), strict=True)
            distances = [feature_distance(net.columns(a), net.columns(b)) for a, b in pairs]
            measured[f"{net.name}_distance"] = torch.cat(distances)
            pooled = self._chunked(net.pooled, y)
            row[f"{net.name}_frechet"] = frechet_distance(pooled, self.pooled[net.name][:n])
            row[f"{net.name}_kid"] = kernel_distance(pooled, self.pooled[net.name][:n], (numbers, numbers))
        for measure, values in measured.items():
            row[measure] = values.mean().item()
            row[f"{measure}_interval"] = bootstrap_interval(values, torch.Generator().manual_seed(self.protocol.seed))
        return row


def write_grid(path: Path, original: VAE, hardened: VAE, x: Images, protocol: ReconstructionProtocol) -> None:
    """Rows: photographs. Columns: clean, attacked in transfer, reconstructions and errors of both VAEs."""
    eps = 15 / 255 if 15 in protocol.eps else max(protocol.eps) / 255
    steps, draws = protocol.steps, generators(protocol.seed, range(len(x)))
    run = ATTACKS["reconstruction"].run
    attacked = run(x, vae=original, ball=Ball.crossed(eps, steps), generators=draws)
    with torch.no_grad():
        before, after = original.reconstruct(attacked), hardened.reconstruct(attacked)
    columns = [x, attacked, before, after, (before - x).abs(), (after - x).abs()]
    captions = ["clean", f"attacked {eps * 255:.0f}/255", "original", "hardened", "|error|, original", "|error|, hardened"]
    write_image(path, tile(list(zip(*columns, strict=True)), captions))
