"""Draw README's picture: edits of attacked photographs, with the original VAE and with a hardened one.

    srlvae apply taesd-srl --to madebyollin/taesd --out runs/taesd-srl
    python recipes/readme_picture.py --images caltech101-128/test --pipeline runs/taesd-sd --hardened runs/taesd-srl

A row a photograph: the photograph and its edit, the photograph under an attack, which is made on the original VAE (transfer),
and the edits of that with either VAE, all from the same noise. The photographs are the first of their classes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import torch.nn.functional as F
import typer

from captions import CONCEPTS, load_classes, word
from srlvae.attacks.prepared import prepare
from srlvae.attacks.request import Request
from srlvae.images import tile, write_image
from srlvae.models.load import load_pipeline
from srlvae.rng import generators

# What the photographs show, and what the prompts say.
SHOWN = ("motorbikes", "hawksbill", "sunflower")
CAPTIONS = ("photograph", "its edit", "attacked", "edit, original", "edit, hardened")
# Pixels of a cell.
SIDE = 208


def main(
    images: Annotated[Path, typer.Option(help="A folder of class folders of 128-pixel photographs, none trained on.")],
    pipeline: Annotated[str, typer.Option(help="A pipeline; its VAE is attacked.")],
    hardened: Annotated[str, typer.Option(help="The hardened VAE.")],
    out: Annotated[Path, typer.Option(help="The picture.")] = Path("docs/pictures/edits.webp"),
    attack: Annotated[str, typer.Option(help="The attack, at its default preset.")] = "photoguard-encoder",
) -> None:
    original, twin = load_pipeline(pipeline), load_pipeline(pipeline, hardened)
    names, pixels, labels = load_classes(images, CONCEPTS)
    x = torch.stack([pixels[labels == names.index(source)][0] for source in SHOWN]).float() / 255
    prompts = [f"a photo of a {word(source)}" for source in SHOWN]

    def draws():
        return generators(0, range(len(x)))

    made = [either.generate(prompts, draws()) for either in (original, twin)]
    if not torch.equal(*made):
        raise SystemExit("the two VAEs do not have the same decoder: their generated images differ")
    attacked = prepare(Request(attack), original).perturb(x, list(SHOWN))
    edits = [either.edit(given, prompts, draws()) for either, given in ((original, x), (original, attacked), (twin, attacked))]
    columns = [F.interpolate(cells, SIDE, mode="bicubic") for cells in (x, edits[0], attacked, *edits[1:])]
    write_image(out, tile(list(zip(*columns, strict=True)), CAPTIONS))


if __name__ == "__main__":
    typer.run(main)
