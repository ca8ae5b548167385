r"""Put what `srlvae harden` made into the package: on a bundled base as a whole VAE, on any other as an encoder file.

    srlvae harden madebyollin/taesd --resolution 96 --batch-size 64 --steps 10000 \
        --images photographs --out runs/taesd-srl
    python recipes/encoders.py --run runs/taesd-srl --base madebyollin/taesd

TAEF1's is made in the same way from madebyollin/taef1, `tiny-srl` from `tiny` in 20,000 steps of 8 images.

A base that is bundled gives a folder in half precision, a base on the hub an encoder file that names it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import torch
import typer

from srlvae.files import write_json
from srlvae.models.encoders import apply_encoder, read_encoder, write_encoder
from srlvae.models.vae import RECORD, load_vae
from srlvae.zoo import FOLDER, bundled


def main(
    run: Annotated[Path, typer.Option(help="What `srlvae harden` wrote; its name is that of the encoder.")],
    base: Annotated[str, typer.Option(help="The bundled VAE or the hub id that it was made from.")],
    local: Annotated[Path | None, typer.Option(help="A local copy of the base, where the hub cannot be reached.")] = None,
) -> None:
    record = json.loads((run / RECORD).read_text(encoding="utf-8"))
    if bundled(base):
        export = FOLDER / run.name
        load_vae(run, dtype=torch.float16).save(export)
        write_json(export / RECORD, {**record, "hardened": load_vae(export).fingerprint()})
        return
    export = FOLDER / "encoders" / f"{run.name}.safetensors"
    facts = {key: value for key, value in read_encoder(run).facts.items() if key not in ("base", "dtype", "versions")}
    facts["trained_with"] = record["versions"]
    hub = {"hub": base, "licence": "MIT"}
    original = load_vae(local or base)
    write_encoder(export, load_vae(run), original, facts, torch.float16, hub)
    # Rounding has made it another one.
    facts["hardened"] = apply_encoder(export, original).fingerprint()
    write_encoder(export, load_vae(run), original, facts, torch.float16, hub)


if __name__ == "__main__":
    typer.run(main)
