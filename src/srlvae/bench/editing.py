"""The editing benchmark: whether edits of attacked photographs are good again, and under which defence.

Edits of attacked images under each defence are compared with the original VAE's edits of the clean images. Both sides of every
comparison have the same photographs, prompts and noise. The defences are `none` (the original VAE), `hardened`, and purifiers
before the original VAE. Attacks made on the original VAE are `transfer` to the hardened one, as in the paper; those made on the
hardened one are `white-box`.

Fréchet distances of few images are biased upwards. The floor says how large they are, at the same n, between sets that are
known to be alike. KID is unbiased, because pairs made from one photograph are left out of it.
"""

from __future__ import annotations

import dataclasses
import time
import warnings
from pathlib import Path
from typing import Any

import torch

from srlvae.attacks import ATTACKS
from srlvae.attacks.engine.trace import transfer_doubts
from srlvae.bench.attacked import CLEAN, UNIFORM_NOISE, Cell, ImageSet
from srlvae.bench.cache import CACHE, Cache, key_of
from srlvae.bench.costs import defence_costs
from srlvae.bench.distances import EditDistances, judges_of, load_networks, reconstruction_estimates
from srlvae.bench.editor import Editor
from srlvae.bench.output import claim_output
from srlvae.bench.photographs import load_photographs
from srlvae.bench.protocol import EditingProtocol, as_written
from srlvae.bench.rows import VAE_OF, Row, access_of, as_data, read_measures
from srlvae.config import budget
from srlvae.events import Listener
from srlvae.files import write_json
from srlvae.images import LeftOut, tile, write_image
from srlvae.locks import holds
from srlvae.metrics.clip import load_clip
from srlvae.models.pipeline import Pipeline
from srlvae.models.vae import VAE
from srlvae.provenance import environment
from srlvae.training.processes import processes

RESULT, SHEETS = "editing.json", "sheets"
# How many photographs a contact sheet shows.
SHEET_PHOTOGRAPHS = 6


def attackable(protocol: EditingProtocol, vae: VAE) -> EditingProtocol:
    """The protocol without attacks that aim at a posterior, if the VAE has none. A warning names what is left out."""
    if vae.has_posterior:
        return protocol
    left_out = [chosen.name for chosen in protocol.attacks if ATTACKS[chosen.name].posterior]
    if left_out:
        warnings.warn(f"these attacks are left out because this VAE has no posterior: {', '.join(left_out)}", stacklevel=2)
    return dataclasses.replace(protocol, attacks=tuple(chosen for chosen in protocol.attacks if chosen.name not in left_out))


def conditions(protocol: EditingProtocol) -> list[tuple[Cell, str]]:
    """Every cell with every defence that it is tried under, in the order in which they are run."""
    attacks = [(Cell(chosen.name, eps, "original"), chosen) for chosen in protocol.attacks for eps in chosen.eps]
    budgets = sorted({cell.eps for cell, _ in attacks})
    found = [(cell, vae) for cell in [CLEAN, *(Cell(UNIFORM_NOISE, eps, "") for eps in budgets)] for vae in VAE_OF]
    for cell, chosen in attacks:
        found += [(cell, "none"), (cell, "hardened")]
        found += [(Cell(cell.attack, cell.eps, "hardened"), "hardened")] if chosen.white_box else []
    cells = [CLEAN, *(cell for cell, _ in attacks)]
    return found + [(cell, p.name) for p in protocol.purifiers for cell in cells if p.takes(cell.attack, cell.eps)]


@holds("out")
def editing(
    pipeline: Pipeline,
    hardened: VAE,
    folder: Path,
    out: Path,
    protocol: EditingProtocol,
    listener: Listener | None = None,
) -> dict[str, Any]:
    """Run the editing benchmark on the photographs in `folder`. Writes rows and sheets to `out`, and returns the result.

    Images and measures are kept in `out`/cache, so a run that was cut off, or a run of another protocol, makes only what is
    missing. If several processes run together, the main one measures and writes, and the others return {}. `seconds` in the
    result counts this run alone, without what earlier runs had made.

    Raises InputError for unusable images.
    """
    started, listener = time.perf_counter(), listener or Listener()
    protocol = attackable(protocol, pipeline.vae)
    left_out = LeftOut(listener)
    x, names = load_photographs(folder, protocol.images, pipeline.size, protocol.seed, left_out)
    claim_output(out, "editing", RESULT)
    left_out.write(out)
    editor = Editor(pipeline, hardened, x, protocol, Cache(out / CACHE, protocol.batch_size, listener))
    edited, planned = EditedRows(editor), conditions(protocol)
    if not processes().is_main_process:
        for number, (cell, defence) in enumerate(planned, 1):
            editor.edits_under(defence, editor.attacked(cell))
            listener.at("rows", number, len(planned), f"{cell}, {defence}")
        return {}
    result = {"benchmark": "editing", **editor.vaes, "networks": editor.networks, "protocol": as_written(protocol)}
    result |= {"images": names, "versions": environment(), **edited.baselines(), "costs": {}, "rows": []}
    for number, (cell, defence) in enumerate(planned, 1):
        result["rows"] += as_data([edited.row(cell, defence)])
        write_json(out / RESULT, result)
        listener.at("rows", number, len(planned), f"{cell}, {defence}")
    result |= {"doubts": edited.white_box_doubts(), "costs": defence_costs(editor)}
    for chosen in protocol.attacks:
        write_sheet(editor, Cell(chosen.name, max(chosen.eps), "original"), edited.reference.images, out / SHEETS)
    result["seconds"] = time.perf_counter() - started
    write_json(out / RESULT, result)
    return result


class EditedRows:
    """The rows of the benchmark. They compare edits with those of the clean photographs, and are measured once and kept."""

    def __init__(self, editor: Editor):
        protocol, device = editor.protocol, editor.pipelines["original"].device
        self.editor = editor
        self.pair_distances: dict[tuple[Cell, str], list[float]] = {}
        self.reference = editor.edits(editor.clean)
        self.others = editor.edits(editor.clean, seed=protocol.seed + 1)
        if not processes().is_main_process:
            return
        clip = load_clip(protocol.clip, device)
        self.networks = load_networks(protocol.pairs, protocol.sets, protocol.batch_size, device)
        judged = self.reference.images, editor.prompts, editor.photograph_of
        self.distances = EditDistances(self.networks, clip, *judged, protocol.seed)
        self.judged_by = {**judges_of(protocol), "clip": clip.fingerprint()}
        self.judged_by |= {"reference": self.reference.keys, "prompts": editor.prompts}

    def row(self, cell: Cell, defence: str) -> Row:
        """The row of a cell under a defence."""
        given = self.editor.attacked(cell)
        found = self._compared(self.editor.edits_under(defence, given))
        self.pair_distances[cell, defence] = found["distances"]
        measures, doubts = read_measures(found["measures"]), self.editor.attacker.doubts(given)
        n = len(self.editor.photograph_of)
        return Row(cell.condition(), access_of(cell.made_on, defence), defence, n, measures, doubts)

    def _compared(self, edits: ImageSet) -> dict[str, Any]:
        key = key_of("compared", edits=edits.keys, **self.judged_by)
        return self.editor.cache.record(key, lambda: self.distances.to(edits.images))

    def baselines(self) -> dict[str, Any]:
        """The rows that the others are to be read beside, as plain data.

        - `floor` says how far edits of clean photographs are from those with another draw of noise, and how far those of one
          half of the photographs are from those of the other half.
        - `reconstruction` says how close both VAEs' reconstructions of the clean photographs are to these.
        """
        return {"floor": as_data(self._floor()), "reconstruction": as_data(map(self._reconstruction, VAE_OF))}

    def _floor(self) -> list[Row]:
        others = read_measures(self._compared(self.others)["measures"])
        measured = {"other noise": others, "halves": self.distances.between_halves()}
        rows = []
        for name, measures in measured.items():
            if measures:
                n = max(estimate.n for estimate in measures.values())
                rows.append(Row({**CLEAN.condition(), "compared": name}, "none", "none", n, measures))
        return rows

    def _reconstruction(self, defence: str) -> Row:
        vae, x = self.editor.pipelines[VAE_OF[defence]].vae, self.editor.clean.images
        measures = reconstruction_estimates(self.networks, vae, x, self.editor.protocol.seed)
        return Row(CLEAN.condition(), "none", defence, len(x), measures)

    def white_box_doubts(self) -> list[str]:
        """A doubt for each white-box attack that hurts the hardened VAE less than the transferred attack does.

        Such an attack did not do its best on the hardened VAE. Only the rows so far are looked at.
        """
        found = []
        for (cell, defence), own in self.pair_distances.items():
            transfer = self.pair_distances.get((dataclasses.replace(cell, made_on="original"), defence))
            if cell.made_on == "hardened" and transfer:
                doubts = transfer_doubts(torch.tensor(transfer), torch.tensor(own))
                found += [f"{cell.attack} at {budget(cell.eps)}: {doubt}" for doubt in doubts]
        return found


def write_sheet(editor: Editor, cell: Cell, reference: torch.Tensor, folder: Path) -> None:
    """Write a contact sheet of a few photographs and their edits, clean and attacked, under every defence of the cell."""
    shown = [editor.photograph_of.index(i) for i in range(min(SHEET_PHOTOGRAPHS, len(editor.clean.images)))]
    given = editor.attacked(cell)
    defences = [*VAE_OF, *(p.name for p in editor.protocol.purifiers if p.takes(cell.attack, cell.eps))]
    edits = [editor.edits_under(defence, given).images[shown] for defence in defences]
    count = len(shown)
    columns = [editor.clean.images[:count], reference[shown], given.images[:count], *edits]
    captions = ("clean", "its edit", "attacked", *("no defence" if d == "none" else d for d in defences))
    write_image(folder / f"{cell.attack}.webp", tile(list(zip(*columns, strict=True)), captions))
