"""Put a hardened `tiny` into the package, as `tiny-srl`, in half precision.

    srlvae harden tiny --preset cpu --objective latents --steps 5000 --images caltech101-128/train --out runs/tiny-srl
    python recipes/tiny_srl.py --run runs/tiny-srl --export src/srlvae/zoo/tiny-srl

The first took 80 minutes of a core beside other work, for what ships.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import torch
import typer

from srlvae.files import write_json
from srlvae.harden.output import RECORD
from srlvae.vae import load_vae


def main(
    run: Annotated[Path, typer.Option(help="What `srlvae harden` wrote.")],
    export: Annotated[Path, typer.Option(help="The folder of the bundled model, with its card.")],
) -> None:
    load_vae(run, dtype=torch.float16).save(export)
    # Where the VAE was loaded from is nobody's business.
    config = export / "config.json"
    kept = {key: value for key, value in json.loads(config.read_text()).items() if key != "_name_or_path"}
    config.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")
    record = json.loads((run / RECORD).read_text(encoding="utf-8"))
    write_json(export / RECORD, {**record, "hardened": load_vae(export).fingerprint()})


if __name__ == "__main__":
    typer.run(main)
