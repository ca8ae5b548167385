"""The editing benchmark: whether edits of attacked photographs are good again, and under which defence.

Edits of attacked images under each defence are compared with the original VAE's edits of the clean images. Both sides of every
comparison have the same photographs, prompts and noise. The defences are `none` (the original VAE), `hardened`, and purifiers
before either. Attacks made on the original VAE are `transfer` to the hardened one, as in the paper; those made on the hardened
one are `white-box`.

Fréchet distances of few images are biased upwards. The floor says how large they are, at the same n, between sets that are
known to be alike. KID is unbiased, because pairs made from one photograph are left out of it.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch

from srlvae.bench.cache import CACHE, Cache
from srlvae.bench.cells import Cell
from srlvae.bench.costs import defence_costs
from srlvae.bench.edited import EditedRows
from srlvae.bench.editing_plan import attackable, conditions
from srlvae.bench.editor import Editor
from srlvae.bench.output import claim_output
from srlvae.bench.photographs import copies, digest_of_keys, load_photographs, shortage
from srlvae.bench.protocol import EditingProtocol, as_written
from srlvae.bench.rows import VAE_OF, as_data
from srlvae.events import Listener
from srlvae.files import write_json
from srlvae.images import LeftOut, tile, write_image
from srlvae.locks import holds
from srlvae.models.pairs import check_twin, told_differences
from srlvae.models.pipeline import Pipeline
from srlvae.models.vae import VAE
from srlvae.provenance import environment
from srlvae.training.processes import processes

RESULT, SHEETS = "editing.json", "sheets"
# How many photographs a contact sheet shows.
SHEET_PHOTOGRAPHS = 6


@holds("out")
def editing(
    pipeline: Pipeline,
    hardened: VAE,
    folder: Path,
    out: Path,
    protocol: EditingProtocol,
    listener: Listener | None = None,
    twin: VAE | None = None,
) -> dict[str, Any]:
    """Run the editing benchmark on the photographs in `folder`. Writes rows and sheets to `out`, and returns the result.

    `twin` is a VAE that was hardened with another seed, for attacks that the protocol also makes on the twin.

    Images and measures are kept in `out`/cache, so a run that was cut off, or a run of another protocol, makes only what is
    missing. If several processes run together, the main one measures and writes, and the others return {}. `seconds` in the
    result counts this run alone, without what earlier runs had made.

    Raises InputError for unusable images, and for VAEs that do not belong together.
    """
    started, listener = time.perf_counter(), listener or Listener()
    differences = told_differences(pipeline.vae, hardened, listener)
    if twin:
        check_twin(pipeline.vae, hardened, twin)
    protocol, not_run = attackable(protocol, pipeline.vae)
    left_out, side = LeftOut(listener), protocol.side or pipeline.size
    pipeline.vae.check_size(side, side)
    x, names = load_photographs(folder, protocol.images, side, protocol.seed, left_out)
    claim_output(out, "editing", RESULT)
    left_out.write(out)
    for sheet in (out / SHEETS).glob("*.webp"):  # of an earlier protocol or VAE
        sheet.unlink()
    editor = Editor(pipeline, hardened, x, protocol, Cache(out / CACHE, protocol.batch_size, listener), twin)
    edited, planned = EditedRows(editor), conditions(protocol)
    if not processes().is_main_process:
        for number, (cell, defence) in enumerate(planned, 1):
            editor.edits_under(defence, editor.attacked(cell))
            listener.at("rows", number, len(planned), f"{cell}, {defence}")
        return {}
    result = {"benchmark": "editing", **editor.vaes, "networks": editor.networks, "protocol": as_written(protocol)}
    result |= {"images": names, "versions": environment(), **edited.baselines(), "costs": {}, "rows": []}
    result |= {"photographs": digest_of_keys(editor.clean.keys), "not_run": not_run}
    result |= {"doubts": shortage(len(x), protocol.images) + copies(editor.clean.keys) + differences}
    for number, (cell, defence) in enumerate(planned, 1):
        result["rows"] += as_data([edited.row(cell, defence)])
        write_json(out / RESULT, result)
        listener.at("rows", number, len(planned), f"{cell}, {defence}")
    result["rows"] += as_data(edited.worst_cases())
    result["costs"] = defence_costs(editor)
    for chosen in protocol.attacks:
        cell = Cell(chosen.name, max(chosen.eps), "original", chosen.preset)
        write_sheet(editor, cell, edited.reference.images, out / SHEETS)
    result["seconds"] = time.perf_counter() - started
    write_json(out / RESULT, result)
    return result


def write_sheet(editor: Editor, cell: Cell, reference: torch.Tensor, folder: Path) -> None:
    """Write a contact sheet of a few photographs and their edits, clean and attacked, under every defence of the cell."""
    shown = [editor.photograph_of.index(i) for i in range(min(SHEET_PHOTOGRAPHS, len(editor.clean.images)))]
    given = editor.attacked(cell)
    defences = [*VAE_OF, *(p.name for p in editor.protocol.purifiers if p.takes(cell.attack, cell.eps))]
    edits = [editor.edits_under(defence, given).images[shown] for defence in defences]
    count = len(shown)
    columns = [editor.clean.images[:count], reference[shown], given.images[:count], *edits]
    captions = ("clean", "its edit", "attacked", *("no defence" if d == "none" else d for d in defences))
    write_image(folder / f"{cell.chosen.replace(':', '-')}.webp", tile(list(zip(*columns, strict=True)), captions))
