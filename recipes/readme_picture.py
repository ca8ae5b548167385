"""Draw README's picture: the same prompts from tiny-sd, with the original VAE and with a hardened one.

    python recipes/readme_picture.py --images caltech101-128/test --hardened tiny-srl --out docs/pictures/tiny-sd.webp

A row a prompt: what is generated (the same to the last bit with both), a photograph and its edit, and edits of that photograph
after PhotoGuard's encoder attack, made on the original VAE (transfer).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer

from captions import CONCEPTS, load_classes, word
from srlvae.attacks import ATTACKS
from srlvae.images import tile, write_image
from srlvae.models.load import load_pipeline
from srlvae.rng import generators

# Photographs of the first are edited towards the second.
PAIRS = (("airplanes", "helicopter"), ("sunflower", "starfish"), ("motorbikes", "car_side"), ("watch", "sunflower"))
CAPTIONS = ("generated", "hardened", "photograph", "edit", "hardened", "attacked", "edit", "hardened")


def main(
    images: Annotated[Path, typer.Option(help="A folder of class folders of 128-pixel photographs, none trained on.")],
    hardened: Annotated[Path, typer.Option(help="The hardened VAE.")],
    out: Annotated[Path, typer.Option(help="The picture.")] = Path("docs/pictures/tiny-sd.webp"),
) -> None:
    original = load_pipeline("tiny-sd")
    twin, attack = load_pipeline("tiny-sd", hardened), ATTACKS["photoguard-encoder"]
    names, pixels, labels = load_classes(images, CONCEPTS)
    x = torch.stack([pixels[labels == names.index(source)][0] for source, _ in PAIRS]).float() / 255
    prompts = [f"a photo of a {word(target)}" for _, target in PAIRS]

    def draws():
        return generators(0, range(len(x)))

    attacked = attack.run(x, vae=original.vae, ball=attack.default.ball, generators=draws())
    made = [pipeline.generate(prompts, draws()) for pipeline in (original, twin)]
    if not torch.equal(*made):
        raise SystemExit("the two VAEs do not have the same decoder: their generated images differ")
    edits = [pipeline.edit(images_, prompts, draws()) for images_ in (x, attacked) for pipeline in (original, twin)]
    columns = [*made, x, *edits[:2], attacked, *edits[2:]]
    write_image(out, tile(list(zip(*columns, strict=True)), CAPTIONS))


if __name__ == "__main__":
    typer.run(main)
