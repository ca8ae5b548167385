"""The reconstruction benchmark: what attacks do to D(E(x)) and to the latents, for the original and the hardened VAE.

Both VAEs are measured on clean photographs, and under each attack and ε, in transfer and white-box. The attacked image is x′,
and its reconstruction is always compared with the clean x. The shift of latents is ‖E(x′) − E₀(x)‖ / ‖E₀(x)‖, with E₀ the
original encoder; in the clean row of the hardened VAE it is how far hardening itself moved latents. Fréchet distances are
between the reconstructions of all images and the clean images. They are biased upwards for few images, so they can be compared
only at equal n. An attack should do more damage than uniform noise of the same ε, which has rows of its own. An attack that
pulls latents to a target has further rows for the parts of its perturbations; see `attacks.contrast`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from srlvae.bench.cache import CACHE, Cache
from srlvae.bench.cells import CLEAN, Cell, noise_cells
from srlvae.bench.output import claim_output
from srlvae.bench.photographs import copies, digest_of_keys, load_photographs, shortage
from srlvae.bench.protocol import ReconstructionProtocol, as_written
from srlvae.bench.reconstructed import Reconstructions, attack_cells, check_attackable, part_cells
from srlvae.bench.rows import VAE_OF, as_data
from srlvae.config import budget
from srlvae.events import Listener
from srlvae.files import write_json
from srlvae.images import Images, LeftOut, tile, write_image
from srlvae.locks import holds
from srlvae.models.pairs import told_differences
from srlvae.models.vae import VAE
from srlvae.provenance import environment
from srlvae.training.processes import processes

RESULT, GRID = "reconstruction.json", "grid.png"
# The picture grid: its attack, its budget if the protocol has it, and how many photographs it shows.
GRID_ATTACK, GRID_EPS, GRID_PHOTOGRAPHS = "reconstruction", 15 / 255, 6


def conditions(protocol: ReconstructionProtocol) -> list[tuple[Cell, str]]:
    """Every cell with the defences, `none` or `hardened`, that it is measured under.

    What is made on the hardened VAE says nothing about the original one, so it is measured on the hardened VAE alone.
    """
    cells = [CLEAN, *noise_cells(list(protocol.eps)), *attack_cells(protocol, "original", "hardened"), *part_cells(protocol)]
    return [(cell, vae) for cell in cells for vae in VAE_OF if cell.made_on != "hardened" or vae == "hardened"]


@holds("out")
def reconstruction(
    original: VAE,
    hardened: VAE,
    folder: Path,
    out: Path,
    protocol: ReconstructionProtocol,
    listener: Listener | None = None,
) -> dict[str, Any]:
    """Run the reconstruction benchmark on the photographs in `folder`, and return the result.

    Rows and pictures are written to `out`. Images and measures are kept in `out`/cache, so a run that was cut off, or a run of
    another protocol, makes only what is missing. If several processes run together, the main one measures and writes, and the
    others return {}.

    Raises InputError for unusable images, and for VAEs that do not belong together.
    """
    listener = listener or Listener()
    differences = told_differences(original, hardened, listener)
    check_attackable(protocol, original)
    left_out = LeftOut(listener)
    wanted = max(protocol.images, protocol.clean_images)
    x, names = load_photographs(folder, wanted, protocol.size, protocol.seed, left_out)
    claim_output(out, "reconstruction", RESULT)
    left_out.write(out)
    (out / GRID).unlink(missing_ok=True)
    bench = Reconstructions(original, x, protocol, Cache(out / CACHE, protocol.batch_size, listener))
    vaes = {"original": original.fingerprint(), "hardened": hardened.fingerprint()}
    result: dict[str, Any] = {"benchmark": "reconstruction", **vaes}
    result |= {"protocol": as_written(protocol), "images": names, "versions": environment()}
    result |= {"photographs": digest_of_keys(bench.clean.keys), "rows": []}
    result |= {"doubts": shortage(len(x), wanted) + copies(bench.clean.keys) + differences}
    planned, is_main = conditions(protocol), processes().is_main_process
    for number, (cell, defence) in enumerate(planned, 1):
        if is_main:
            result["rows"] += as_data([bench.row(cell, defence, hardened)])
            write_json(out / RESULT, result)
        else:
            bench.attacked(cell, hardened)
        listener.at("rows", number, len(planned), f"{cell}, {defence}")
    shown, _ = bench.attacked(grid_cell(protocol), hardened)
    if not is_main:
        return {}
    write_grid(out / GRID, bench, shown.images[:GRID_PHOTOGRAPHS], hardened)
    return result


def grid_attack(attacks: Sequence[str]) -> str:
    """The attack that the picture grid shows: the reconstruction attack, or the first where it is none of the protocol's."""
    return GRID_ATTACK if GRID_ATTACK in attacks else attacks[0]


def grid_cell(protocol: ReconstructionProtocol) -> Cell:
    """The cell that the picture grid shows, at 15/255, or at the largest ε if the protocol lacks that."""
    return Cell(grid_attack(protocol.attacks), GRID_EPS if GRID_EPS in protocol.eps else max(protocol.eps), "original")


def write_grid(path: Path, bench: Reconstructions, attacked: Images, hardened: VAE) -> None:
    """Write a picture with a line for each photograph: clean, attacked, and the reconstructions and errors of both VAEs."""
    x = bench.clean.images[: len(attacked)]
    with torch.no_grad():
        before, after = (vae.reconstruct(attacked.to(vae.device)).cpu() for vae in (bench.original, hardened))
    columns = [x, attacked, before, after, (before - x).abs(), (after - x).abs()]
    name = f"attacked {budget(grid_cell(bench.protocol).eps)}"
    captions = ["clean", name, "original", "hardened", "|error|, original", "|error|, hardened"]
    write_image(path, tile(list(zip(*columns, strict=True)), captions))
