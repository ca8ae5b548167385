"""A learned remover, trained on what attacks on a VAE made of training photographs, for the purifier `learned-remover`.

    python recipes/remover.py --images TRAIN --vae tiny --out remover.safetensors

In a protocol: `{ name = "learned-remover", source = "remover.safetensors" }`. A JSON beside the file has the settings, and the
share of each attack's energy that is left on photographs that it was not trained on.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import Tensor

from srlvae.attacks.prepared import prepare
from srlvae.attacks.request import Request
from srlvae.bench.photographs import load_photographs
from srlvae.cli.drawing import Bars
from srlvae.cli.shared import console
from srlvae.config import fraction
from srlvae.files import write_json
from srlvae.images import LeftOut
from srlvae.models.vae import load_vae
from srlvae.provenance import environment
from srlvae.purify.remover import remove, save_remover
from srlvae.purify.remover_training import RemoverConfig, train_remover

ATTACKS = ("photoguard-encoder", "latent", "mist-textural", "reconstruction")
SIZE, BATCH, HELD_OUT = 128, 8, 8


def energy_left(clean: Tensor, attacked: Tensor, cleaned: Tensor) -> float:
    return ((cleaned - clean).square().sum() / (attacked - clean).square().sum()).item()


def main(
    images: Annotated[Path, typer.Option(help="A folder of training photographs.")],
    out: Annotated[Path, typer.Option(help="The remover's safetensors file.")],
    vae: Annotated[str, typer.Option(help="The VAE that is attacked.")] = "tiny",
    attacks: Annotated[list[str] | None, typer.Option("--attack", help="Attacks that it learns.")] = None,
    eps: Annotated[str, typer.Option(help="Budget of the attacks.")] = "15/255",
    attack_steps: Annotated[int, typer.Option(help="Their steps.")] = 20,
    count: Annotated[int, typer.Option("--n", help="Photographs.")] = 200,
    steps: Annotated[int, typer.Option(help="Training steps.")] = 2000,
) -> None:
    model, names, config = load_vae(vae), attacks or list(ATTACKS), RemoverConfig(steps=steps)
    with Bars(console) as bars:
        x, photographs = load_photographs(images, count, SIZE, 0, LeftOut(bars))
        made = []
        for name in names:
            attack = prepare(Request(name, eps=fraction(eps), steps=attack_steps), model)
            parts = []
            for start in range(0, len(x), BATCH):
                parts.append(attack.perturb(x[start : start + BATCH], photographs[start : start + BATCH]))
                bars.at(name, start + len(parts[-1]), len(x))
            made.append(torch.cat(parts))
        remover = train_remover(x[HELD_OUT:], [part[HELD_OUT:] for part in made], config, bars)
    save_remover(remover, out)
    own = x[:HELD_OUT]
    left = {
        name: energy_left(own, part[:HELD_OUT], remove(part[:HELD_OUT], generators=[], remover=remover))
        for name, part in zip(names, made, strict=True)
    }
    said = {"vae": model.fingerprint(), "eps": eps, "attack_steps": attack_steps, "n": len(x) - HELD_OUT, "steps": steps}
    write_json(out.with_suffix(".json"), {**said, "energy_left": left, "held_out": HELD_OUT, "versions": environment()})
    console.print(left)


if __name__ == "__main__":
    typer.run(main)
