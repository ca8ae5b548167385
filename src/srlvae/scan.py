"""Which images of a folder were perturbed: on those the original and the hardened encoder disagree more than on clean ones."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import PartialState
from jaxtyping import Float
from torch import Tensor

from srlvae.errors import InputError
from srlvae.files import write_atomically, write_json
from srlvae.images import find_images, pad_to_multiple, read_image
from srlvae.vae import VAE, Images

# Scores as they come, a file a process; the table of all at the end.
TABLE, VERDICTS, RECORD = "scores-{}.csv", "scan.csv", "scan.json"
COLUMNS = ("file", "score", "error")
# Larger images are scored in tiles of this side, so that memory does not grow with them.
TILE = 512

Done = Callable[[int, int], None]


@dataclass(frozen=True)
class Score:
    """value: −∞ where the file could not be read, with the reason in `error`."""

    file: str
    value: float
    error: str


@torch.no_grad()
def disagreement(original: VAE, hardened: VAE, x: Images) -> Float[Tensor, " b"]:
    """Root mean square of E₀(x) − E(x), in the units of latents: how far apart two encoders see an image.

    Not relative to the latent's own spread: attacks that pull latents to zero lower that, too.
    """
    before, after = (vae.mean(pad_to_multiple(x, vae.factor)) for vae in (original, hardened))
    return (before - after).square().mean((1, 2, 3)).sqrt()


def score_image(original: VAE, hardened: VAE, x: Float[Tensor, "3 h w"]) -> float:
    """The disagreement on an image of any size: the mean over its tiles, by their area."""
    tiles = [tile for band in x.split(TILE, dim=1) for tile in band.split(TILE, dim=2)]
    areas = [tile.shape[1] * tile.shape[2] for tile in tiles]
    scores = [disagreement(original, hardened, tile[None].to(original.device)).item() for tile in tiles]
    return sum(score * area for score, area in zip(scores, areas, strict=True)) / sum(areas)


def scan(original: VAE, hardened: VAE, folder: Path, out: Path, done: Done = lambda number, total: None) -> list[Score]:
    """Score every image below `folder`, line by line into `out`/scores-0.csv; returns the scores, the largest first.

    One image is in memory at a time, and files that are listed already are passed over, so that a run which was cut off goes
    on. Processes that run together share the files out. A file that cannot be read gets a line that says so. Raises
    InputError where `out` holds the scores of other encoders or of another folder.
    """
    paths, state = find_images(folder), PartialState()
    _claim(out, {"original": original.fingerprint(), "hardened": hardened.fingerprint(), "folder": str(folder.resolve())})
    share = paths[state.process_index :: state.num_processes]
    table = out / TABLE.format(state.process_index)
    fresh = not _mend(table)
    known = {score.file for score in read_scores(out)}
    with table.open("a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        if fresh:
            writer.writerow(COLUMNS)
        for number, path in enumerate(share, 1):
            name = path.relative_to(folder).as_posix() if path != folder else path.name
            if name not in known:
                writer.writerow((name, *_scored(original, hardened, path)))
                file.flush()
            done(number, len(share))
    state.wait_for_everyone()
    return sorted(read_scores(out), key=lambda score: -score.value)


def _mend(table: Path) -> bool:
    """Take away the half line at the end of a table whose run was cut off; whether there is a table."""
    if not table.exists():
        return False
    with table.open("rb+") as file:
        return file.truncate(file.read().rfind(b"\n") + 1) > 0


def _scored(original: VAE, hardened: VAE, path: Path) -> tuple[str, str]:
    try:
        return f"{score_image(original, hardened, read_image(path)):.6g}", ""
    except InputError as error:
        return "", str(error)


def read_scores(out: Path) -> Iterator[Score]:
    """The scores in a folder; those of unreadable files are −∞."""
    for table in sorted(out.glob(TABLE.format("*"))):
        with table.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                yield Score(row["file"], float(row["score"] or -math.inf), row["error"])


def calibrate(scores: list[float], rate: float) -> float:
    """The threshold that a new clean image exceeds with a probability of at most `rate`.

    The k-th largest of n clean scores is exceeded by another with probability k / (n + 1). Raises InputError where there are
    too few clean images for the rate.
    """
    k = math.floor(rate * (len(scores) + 1))
    if k < 1:
        raise InputError(f"{len(scores)} clean images cannot show a rate of {rate:g}; give {math.ceil(1 / rate) - 1} or more")
    return sorted(scores, reverse=True)[k - 1]


def write_verdicts(out: Path, scores: list[Score], threshold: float) -> Path:
    """A table of all files with their scores and verdicts, the most suspicious first; returns it."""

    def write(file: Path) -> None:
        with file.open("w", newline="", encoding="utf-8") as opened:
            writer = csv.writer(opened)
            writer.writerow(("file", "score", "suspicious", "error"))
            for score in scores:
                known = score.value > -math.inf
                verdict = ("yes" if score.value > threshold else "no") if known else ""
                writer.writerow((score.file, f"{score.value:.6g}" if known else "", verdict, score.error))

    write_atomically(out / VERDICTS, write)
    return out / VERDICTS


def _claim(out: Path, settings: dict) -> None:
    record = out / RECORD
    if record.exists() and json.loads(record.read_text(encoding="utf-8")) != settings:
        raise InputError(f"{out} holds the scores of other encoders or of another folder; give another --out")
    write_json(record, settings)
