"""What attacks do to D(E(x)): the original VAE beside the hardened one, clean and attacked, transfer and white-box, over ε.

The attacked image is x′, always compared with the *clean* x. Shift is ‖E(x′) − E₀(x)‖ / ‖E₀(x)‖, E₀ the original encoder: in
the clean row of the hardened one it is how far hardening itself moved latents. Fréchet distances are between the
reconstructions of all images and the clean images, and biased upwards for few images: compare
them at equal n only. Uniform noise of the same ε is what an attack must beat to deserve its name.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from srlvae.bench.attacked import CLEAN, Cell
from srlvae.bench.cache import Cache
from srlvae.bench.photographs import load_photographs
from srlvae.bench.protocol import ReconstructionProtocol, as_written
from srlvae.bench.reconstructed import Reconstructions, attack_cells, noise_cells
from srlvae.bench.rows import VAE_OF, as_data
from srlvae.config import budget
from srlvae.events import Listener
from srlvae.files import write_json
from srlvae.images import Images, tile, write_image
from srlvae.models.vae import VAE
from srlvae.provenance import versions
from srlvae.training.processes import processes

RESULT, GRID, CACHE = "reconstruction.json", "grid.png", "cache"
# The attack and, where the protocol has it, the budget of the picture grid; and its photographs.
SHOWN_ATTACK, SHOWN_EPS, SHOWN = "reconstruction", 15 / 255, 6


def conditions(protocol: ReconstructionProtocol) -> list[tuple[Cell, str]]:
    """Every set of images with the VAEs that it is tried on. What is made on the hardened VAE says nothing of the original."""
    cells = [CLEAN, *noise_cells(protocol), *attack_cells(protocol, "original", "hardened")]
    return [(cell, vae) for cell in cells for vae in VAE_OF if cell.made_on != "hardened" or vae == "hardened"]


def reconstruction(
    original: VAE,
    hardened: VAE,
    folder: Path,
    out: Path,
    protocol: ReconstructionProtocol,
    listener: Listener | None = None,
) -> dict[str, Any]:
    """Run the benchmark on the photographs in `folder`; write rows and the picture grid to `out`, and return what is written.

    Images and measures are kept in `out`/cache by what they were made from: a run that was cut off, or another protocol, makes
    only what is missing. Of processes that run together the main one measures and writes; the others return {}.
    Raises InputError for unusable images.
    """
    listener = listener or Listener()
    x, names = load_photographs(folder, max(protocol.images, protocol.clean_images), protocol.size, protocol.seed)
    bench = Reconstructions(original, x, protocol, Cache(out / CACHE, protocol.batch_size, listener))
    vaes = {"original": original.fingerprint(), "hardened": hardened.fingerprint()}
    result: dict[str, Any] = {"benchmark": "reconstruction", **vaes}
    result |= {"protocol": as_written(protocol), "images": names, "versions": versions(), "rows": []}
    planned, is_main = conditions(protocol), processes().is_main_process
    for number, (cell, defence) in enumerate(planned, 1):
        if is_main:
            result["rows"] += as_data([bench.row(cell, defence, hardened)])
            write_json(out / RESULT, result)
        else:
            bench.attacked(cell, hardened)
        listener.at("rows", number, len(planned), f"{cell}, {defence}")
    shown, _ = bench.attacked(shown_cell(protocol), hardened)
    if not is_main:
        return {}
    write_grid(out / GRID, bench, shown.images[:SHOWN], hardened)
    return result


def shown_cell(protocol: ReconstructionProtocol) -> Cell:
    """What the picture grid shows."""
    return Cell(SHOWN_ATTACK, SHOWN_EPS if SHOWN_EPS in protocol.eps else max(protocol.eps), "original")


def write_grid(path: Path, bench: Reconstructions, attacked: Images, hardened: VAE) -> None:
    """Rows: photographs. Columns: clean, attacked in transfer, reconstructions and errors of both VAEs."""
    x = bench.clean.images[: len(attacked)]
    with torch.no_grad():
        before, after = (vae.reconstruct(attacked.to(vae.device)).cpu() for vae in (bench.original, hardened))
    columns = [x, attacked, before, after, (before - x).abs(), (after - x).abs()]
    name = f"attacked {budget(shown_cell(bench.protocol).eps)}"
    captions = ["clean", name, "original", "hardened", "|error|, original", "|error|, hardened"]
    write_image(path, tile(list(zip(*columns, strict=True)), captions))
