"""Fit the directions in which sets of edits are compared: principal components of real photographs' pooled features.

    python recipes/directions.py --images caltech101-128/train --export src/srlvae/zoo/directions

Two minutes of one core.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.progress import track
from safetensors.torch import save_file

from srlvae.bench.photographs import load_photographs
from srlvae.metrics.features import load_features
from srlvae.metrics.projection import DIMENSIONS, fit_projection

SIZE, SEED = 128, 0


@torch.no_grad()
def main(
    images: Annotated[Path, typer.Option(help="Photographs, none of which is edited in a benchmark.")],
    export: Annotated[Path, typer.Option(help="Where the file goes.")],
    network: Annotated[str, typer.Option(help="The feature network.")] = "efficientnet-lite1",
    count: Annotated[int, typer.Option("--n", help="How many photographs.")] = 2000,
) -> None:
    x, _ = load_photographs(images, count, SIZE, SEED)
    net = load_features(network)
    pooled = torch.cat([net.pooled(part) for part in track(x.split(64), "features")])
    found = fit_projection(pooled)
    export.mkdir(parents=True, exist_ok=True)
    facts = {"network": network, "photographs": str(len(x)), "size": str(SIZE), "seed": str(SEED)}
    save_file({"centre": found.centre, "directions": found.directions}, export / f"{network}.safetensors", facts)
    centred = pooled.double() - found.centre.double()
    share = (found(pooled).square().sum() / centred.square().sum()).item()
    print(f"{DIMENSIONS} directions have {share:.0%} of the variance of {len(x)} photographs")


if __name__ == "__main__":
    typer.run(main)
