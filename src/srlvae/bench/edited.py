"""The rows of the editing benchmark: of every cell under every defence, of the worst case, and those to read them beside."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from srlvae.attacks.engine.trace import transfer_doubts
from srlvae.bench.attacked import ImageSet
from srlvae.bench.cache import key_of
from srlvae.bench.cells import CLEAN, Cell
from srlvae.bench.distances import EditDistances, judges_of, load_networks, reconstruction_estimates
from srlvae.bench.editor import Editor
from srlvae.bench.estimates import mean_estimate
from srlvae.bench.rows import VAE_OF, WORST_CASE, Access, Condition, Row, as_data, read_measures
from srlvae.config import budget
from srlvae.metrics.clip import load_clip
from srlvae.training.processes import processes


class EditedRows:
    """The rows of the benchmark. They compare edits with those of the clean photographs, and are measured once and kept."""

    def __init__(self, editor: Editor):
        protocol, device = editor.protocol, editor.pipelines["original"].device
        self.editor = editor
        self.pair_distances: dict[tuple[Cell | None, str], list[float]] = {}
        if not processes().is_main_process:
            self.reference, self.others = self._clean_edits()
            return
        # Before hours of edits: what cannot be loaded ends the run.
        clip = load_clip(protocol.clip, device)
        self.networks = load_networks(protocol.pairs, protocol.sets, protocol.batch_size, device)
        self.reference, self.others = self._clean_edits()
        judged = self.reference.images, editor.prompts, editor.photograph_of
        self.distances = EditDistances(self.networks, clip, *judged, protocol.seed)
        self.judged_by = {**judges_of(protocol), "clip": clip.fingerprint()}
        self.judged_by |= {"reference": self.reference.keys, "prompts": editor.prompts}

    def _clean_edits(self) -> tuple[ImageSet, ImageSet]:
        """The edits of the clean photographs, and those with another draw of noise."""
        editor = self.editor
        return editor.edits(editor.clean), editor.edits(editor.clean, seed=editor.protocol.seed + 1)

    def row(self, cell: Cell, defence: str) -> Row:
        """The row of a cell under a defence."""
        given = self.editor.attacked(cell)
        found = self._compared(self.editor.edits_under(defence, given))
        self.pair_distances[cell, defence] = found["distances"]
        measures = read_measures(found["measures"])
        doubts = [*self.editor.attacker.doubts(given), *self._weaker_than_transfer(cell, defence)]
        return Row(cell.condition(), cell.access(defence), defence, len(self.editor.photograph_of), measures, doubts)

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

    def _weaker_than_transfer(self, cell: Cell, defence: str) -> list[str]:
        """Doubts about an attack on the hardened VAE that hurts it less than the transferred one did in a row before."""
        own, transfer = (self.pair_distances.get((made, defence)) for made in (cell, cell.transferred))
        return transfer_doubts(self._of_photographs(transfer), self._of_photographs(own)) if own and transfer else []

    def _of_photographs(self, values: list[float]) -> Tensor:
        """The mean over the edits of each photograph."""
        return torch.tensor(values).view(-1, self.editor.protocol.prompts_an_image).mean(1)

    def worst_cases(self) -> list[Row]:
        """The rows of the worst case: of each edit the one, of all attacks of an ε, that lies furthest from its clean edit.

        Their only measure is that distance, by which they are chosen.

        There is one for each ε and defence with at least two attacks. Those in transfer choose among attacks that did not know
        the defence, and those in white-box among all. Only the rows so far are looked at.
        """
        found, attacks = [], [(cell, defence) for cell, defence in self.pair_distances if cell and _counts(cell)]
        for eps, defence in sorted({(cell.eps, defence) for cell, defence in attacks}):
            cells = [cell for cell, other in attacks if (cell.eps, other) == (eps, defence)]
            unknowing = [cell for cell in cells if cell.access(defence) == "transfer"]
            if len(unknowing) > 1 and defence != "none":
                found.append(self._worst(unknowing, defence, "transfer"))
            if len(cells) > max(1, len(unknowing)):
                found.append(self._worst(cells, defence, "white-box"))
        return found

    def _worst(self, cells: list[Cell], defence: str, access: Access) -> Row:
        furthest = torch.tensor([self.pair_distances[cell, defence] for cell in cells]).amax(0)
        about: Condition = {"attack": WORST_CASE, "eps": budget(cells[0].eps), "attacks": len(cells)}
        photographs = torch.tensor(self.editor.photograph_of)
        measures = {"distance": mean_estimate(furthest, self.editor.protocol.seed, photographs)}
        return Row(about, access, defence, len(furthest), measures)


def _counts(cell: Cell) -> bool:
    """Whether a cell counts in the worst case: an attack, on whatever and through whatever it is made, that bounds each pixel.

    Parts of attacks, noise and sweeps do not.
    """
    return bool(cell.made_on) and not (cell.part or cell.steps or cell.restarts or "norm" in cell.condition())
