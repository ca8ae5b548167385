"""The folder that a run writes: claimed before the first step, filled atomically at the end, and describing itself."""

from __future__ import annotations

import json
import math
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from srlvae.errors import InputError
from srlvae.files import open_to_append, write_json, write_text
from srlvae.harden.card import CARD, PICTURE, base_of, write_card
from srlvae.harden.scores import attack_reconstruction
from srlvae.images import Images, tile, write_image
from srlvae.models.encoders import NAME as ENCODER
from srlvae.models.encoders import write_encoder
from srlvae.models.vae import RECORD, VAE
from srlvae.provenance import environment
from srlvae.runs import end

CHECKPOINT = "checkpoints/last.safetensors"
RUN, LOG = "checkpoints/run.json", "log.jsonl"


def log_row(out: Path, row: dict) -> None:
    """Append a row to the log of the run, as a line of JSON."""
    with open_to_append(out / LOG) as file:
        file.write(json.dumps(row) + "\n")


class Comparison:
    """Photographs `x` clean and attacked on the original VAE, and what the original and another one make of the latter."""

    def __init__(self, original: VAE, x: Images):
        self.original, self.x = original, x

    @cached_property
    def rows(self) -> list[list[Tensor]]:
        """For each photograph: clean, attacked, and the attacked one as the original reconstructs it."""
        found = []
        for number, photograph in enumerate(self.x.to(self.original.device).split(1)):
            attacked = attack_reconstruction(self.original, photograph, seed=0, first=number)
            with torch.no_grad():
                found.append([photograph, attacked, self.original.reconstruct(attacked)])
        return found

    def picture(self, hardened: VAE) -> Tensor:
        """The rows with the attacked photographs as `hardened` reconstructs them, as one picture `3 h w`."""
        known = self.rows  # made with gradients
        with torch.no_grad():
            rows = [[cell[0] for cell in (*row, hardened.reconstruct(row[1]))] for row in known]
        return tile(rows, ["clean", "attacked 15/255", "original", "hardened"])


def finish_folder(
    out: Path, comparison: Comparison, hardened: VAE, scores: dict, run: dict, progress: dict, skipped: int
) -> None:
    """Write weights, encoder file, record, model card and picture, then remove the checkpoint.

    `skipped` is how many photographs could not be used.

    Raises InputError if the scores are not finite; the checkpoint is then kept.
    """
    _check_result(scores)
    original = comparison.original
    hardened.save(out)
    write_image(out / PICTURE, comparison.picture(hardened))
    made = {"original": run["original"], "hardened": hardened.fingerprint(), "config": run["config"], "scores": scores}
    base = base_of(original)
    write_encoder(out / ENCODER, hardened, original, made, source={"hub": base.name} if base.name else None)
    record = {
        "made_by": "srlvae harden",
        **made,
        "photographs": run["photographs"],
        "steps_planned": progress["planned"],
        "seconds": progress["seconds"],
        "steps_skipped": progress["steps_skipped"],
        "images_skipped": skipped,
        "versions": environment(),
    }
    write_text(out / CARD, write_card(record, score_rows(record), base))
    write_json(out / RECORD, record)
    end(out, RUN)


def _check_result(scores: dict) -> None:
    """Raise InputError for numbers that are not finite."""
    numbers = [value for part in (scores["original"], scores["hardened"]) for value in part.values() if value is not None]
    if not all(math.isfinite(number) for number in numbers):
        raise InputError("the scores are not finite, so no result is written; the checkpoint is kept")


ROWS = {
    "shift_clean": ("clean latents, shift from the original's (lower is better)", "{:.3f}"),
    "features_clean": ("clean reconstruction, {features} distance (lower is better)", "{:.3f}"),
    "psnr_clean": ("clean reconstruction, PSNR", "{:.2f} dB"),
    "deviation_clean": ("standard deviation of the posterior, clean", "{:.3g}"),
    "away_transfer": ("latents pushed away, attack on the original: shift", "{:.3f}"),
    "away_white_box": ("latents pushed away, attack on the VAE itself: shift", "{:.3f}"),
    "zero_transfer": ("latents pulled to zero, attack on the original: shift", "{:.3f}"),
    "zero_white_box": ("latents pulled to zero, attack on the VAE itself: shift", "{:.3f}"),
    "psnr_transfer": ("reconstruction attacked, on the original: PSNR", "{:.2f} dB"),
    "psnr_white_box": ("reconstruction attacked, on the VAE itself: PSNR", "{:.2f} dB"),
    "deviation_white_box": ("standard deviation of the posterior, attacked", "{:.3g}"),
}


def score_rows(record: dict) -> list[tuple[str, str, str]]:
    """The scores as text, (measure, before, after), for the model card and the terminal."""
    before, after = record["scores"]["original"], record["scores"]["hardened"]
    features = record["config"]["features"]
    return [
        (label.format(features=features), form.format(before[key]), form.format(after[key]))
        for key, (label, form) in ROWS.items()
        if before.get(key) is not None
    ]
