"""How much memory `srlvae harden` needs on well-known VAEs, and which micro-batch fits on cards of 8 to 80 GB.

python recipes/memory.py results/memory.json

Nothing is measured: a step of the default objective is counted on tensors without values, in bfloat16.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from diffusers import AutoencoderKL, AutoencoderTiny

from srlvae.harden import preset
from srlvae.harden.memory import COPIES, SHARE, step_memory
from srlvae.harden.terms import Term
from srlvae.models.vae import VAE

DOWN, UP = ("DownEncoderBlock2D",) * 4, ("UpDecoderBlock2D",) * 4
LARGE = {"block_out_channels": (128, 256, 512, 512), "down_block_types": DOWN, "up_block_types": UP, "layers_per_block": 2}
MODELS = {
    "TAESD": lambda: AutoencoderTiny(),
    "SD 1.5": lambda: AutoencoderKL(**LARGE, latent_channels=4),
    "SDXL": lambda: AutoencoderKL(**LARGE, latent_channels=4, scaling_factor=0.13025),
    "FLUX.1": lambda: AutoencoderKL(**LARGE, latent_channels=16, use_quant_conv=False, use_post_quant_conv=False),
}
# What CUDA itself and its libraries take of a card.
RUNTIME = 0.7e9
CARDS = (8, 16, 24, 80)


def rows(name: str, resolution: int) -> list[dict]:
    vae = VAE(MODELS[name]().eval().requires_grad_(False))
    config = preset("default", resolution=resolution)
    terms = (*config.objective.terms, Term("shift", "clean", 10.0))
    size = sum(p.numel() * 4 for p in vae.model.parameters())
    encoder = sum(p.numel() * 4 for part in vae.encoder_modules().values() for p in part.parameters())
    networks = COPIES * size + encoder
    found = []
    for checkpointing in (False, True):
        for micro in (16, 8, 4, 2, 1):
            steps = step_memory(vae, config, terms, config.batch_size, micro, checkpointing, half=True)
            row = {"model": name, "resolution": resolution, "micro_batch": micro, "gradient_checkpointing": checkpointing}
            found.append(row | {"bytes_networks": networks, "bytes_steps": steps, "estimated": True})
    return found


def fits(found: list[dict], card: int) -> str:
    for row in found:
        if row["bytes_steps"] <= SHARE * (card * 1e9 - RUNTIME - row["bytes_networks"]):
            return f"{row['micro_batch']}{', checkpointed' if row['gradient_checkpointing'] else ''}"
    return "none"


def main() -> None:
    every = []
    print("| VAE | pixels | GB, 16 at once | GB, 1 at once |", " | ".join(f"{card} GB" for card in CARDS), "|")
    print("|---" * (4 + len(CARDS)) + "|")
    for name in MODELS:
        for resolution in (256, 512):
            found = rows(name, resolution)
            every += found
            whole = [(row["bytes_networks"] + row["bytes_steps"]) / 1e9 for row in (found[0], found[4])]
            cells = [name, str(resolution), *(f"{value:.1f}" for value in whole), *(fits(found, card) for card in CARDS)]
            print("|", " | ".join(cells), "|", flush=True)
    Path(sys.argv[1]).write_text(json.dumps(every, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
