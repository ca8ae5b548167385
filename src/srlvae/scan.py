"""Which images of a folder were perturbed: on those the original and the hardened encoder part as on no clean one.

How far they disagree on a clean image depends on its texture. So the image is compared with what the hardened VAE makes of it,
D(E(x)), which shows the same and is free of the perturbation; and with clean images, for what is normal.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from jaxtyping import Float
from torch import Tensor

from srlvae.errors import InputError
from srlvae.files import write_atomically, write_json
from srlvae.images import find_images, pad_to_multiple, read_image
from srlvae.vae import VAE, Images, Latents

# Evidence as it comes, a file a process; the table of all at the end.
TABLE, VERDICTS, RECORD = "evidence-{}.csv", "scan.csv", "scan.json"
KINDS = ("change", "shrinkage")
COLUMNS = ("file", *KINDS, "error")
# Names of files need not be text.
NAMES: Any = {"encoding": "utf-8", "errors": "surrogateescape"}
# Larger images are seen in tiles of this side, so that memory does not grow with them.
TILE = 512
# Disagreement on clean images varies with their texture, and its change from x to D(E(x)) with about this power of it: a fit to
# training photographs.
POWER = 0.6

Done = Callable[[int, int], None]


@dataclass(frozen=True)
class Seen:
    """evidence: see `evidence`; None where the file could not be read, with the reason in `error`."""

    file: str
    evidence: tuple[float, float] | None
    error: str = ""


@dataclass(frozen=True)
class Score:
    """value: −∞ where the file could not be read, with the reason in `error`."""

    file: str
    value: float
    error: str = ""


@torch.no_grad()
def evidence(original: VAE, hardened: VAE, x: Images) -> Float[Tensor, "b 2"]:
    """Two signs of a perturbation in images, from the disagreement d(x) = E₀(x) − E(x) and y = D(E(x)); both near normally
    distributed over clean images.

    change: log of ‖d(x) − d(y)‖ / ‖d(y)‖^POWER, root mean squares: the encoders part on x where they agree on y.
    shrinkage: how much smaller E₀ sees x than E does, as a share of E(x), less the same of y: attacks that pull latents to
    zero take contrast away, and with it the change.
    """
    x = pad_to_multiple(x, original.factor)
    before, after = original.mean(x), hardened.mean(x)
    y = hardened.decode(after).clamp(0, 1)
    before_y, after_y = original.mean(y), hardened.mean(y)
    change = (_rms(before - after - before_y + after_y) / _rms(before_y - after_y).pow(POWER)).log()
    return torch.stack([change, _shrinkage(before, after) - _shrinkage(before_y, after_y)], 1)


def _rms(z: Latents) -> Float[Tensor, " b"]:
    """Never zero, for logarithms."""
    return z.square().mean((1, 2, 3)).sqrt().clamp(min=1e-6)


def _shrinkage(before: Latents, after: Latents) -> Float[Tensor, " b"]:
    return ((after - before) * after).mean((1, 2, 3)) / _rms(after).square()


def evidence_of_image(original: VAE, hardened: VAE, x: Float[Tensor, "3 h w"]) -> Float[Tensor, " 2"]:
    """The evidence in an image of any size: the mean over its tiles, by their area."""
    tiles = [tile for band in x.split(TILE, dim=1) for tile in band.split(TILE, dim=2)]
    areas = torch.tensor([float(tile.shape[1] * tile.shape[2]) for tile in tiles])
    found = torch.cat([evidence(original, hardened, tile[None].to(original.device)).cpu() for tile in tiles])
    return (found * areas[:, None]).sum(0) / areas.sum()


@dataclass(frozen=True)
class Normal:
    """Mean and standard deviation of each kind of evidence on clean images."""

    mean: Float[Tensor, " 2"]
    deviation: Float[Tensor, " 2"]

    @staticmethod
    def of(clean: Float[Tensor, "n 2"]) -> Normal:
        return Normal(clean.mean(0), clean.std(0).clamp(min=1e-6))

    def scores(self, found: Float[Tensor, "n 2"]) -> Float[Tensor, " n"]:
        """How many standard deviations above what is normal, the two kinds together; 0 where both are below."""
        return ((found - self.mean) / self.deviation).clamp(min=0).square().sum(1).sqrt()


def scan(original: VAE, hardened: VAE, folder: Path, out: Path, done: Done = lambda number, total: None) -> list[Seen]:
    """Look at every image below `folder`, line by line into `out`/evidence-0.csv; returns what was seen.

    One image is in memory at a time, and files that are listed already are passed over, so that a run which was cut off goes
    on. Processes that run together share the files out. A file that cannot be read gets a line that says so. Raises
    InputError where `out` holds the evidence of other encoders or of another folder.
    """
    paths, state = find_images(folder), PartialState()
    _claim(out, {"original": original.fingerprint(), "hardened": hardened.fingerprint(), "folder": str(folder.resolve())})
    share = paths[state.process_index :: state.num_processes]
    table = out / TABLE.format(state.process_index)
    fresh = not _mend(table)
    known = {seen.file for seen in read_evidence(out)}
    with table.open("a", newline="", **NAMES) as file:
        writer = csv.writer(file)
        if fresh:
            writer.writerow(COLUMNS)
        for number, path in enumerate(share, 1):
            name = path.relative_to(folder).as_posix() if path != folder else path.name
            if name not in known:
                writer.writerow((name, *_looked_at(original, hardened, path)))
                file.flush()
            done(number, len(share))
    state.wait_for_everyone()
    return list(read_evidence(out))


def _mend(table: Path) -> bool:
    """Take away the half line at the end of a table whose run was cut off; whether there is a table."""
    if not table.exists():
        return False
    with table.open("rb+") as file:
        return file.truncate(file.read().rfind(b"\n") + 1) > 0


def _looked_at(original: VAE, hardened: VAE, path: Path) -> tuple[str, str, str]:
    try:
        change, shrinkage = evidence_of_image(original, hardened, read_image(path)).tolist()
        return f"{change:.6g}", f"{shrinkage:.6g}", ""
    except InputError as error:
        return "", "", str(error)


def read_evidence(out: Path) -> Iterator[Seen]:
    """What was seen so far, from a folder of `scan`."""
    for table in sorted(out.glob(TABLE.format("*"))):
        with table.open(newline="", **NAMES) as file:
            for row in csv.DictReader(file):
                change, shrinkage = row["change"], row["shrinkage"]
                yield Seen(row["file"], None if row["error"] else (float(change), float(shrinkage)), row["error"])


def calibrate(clean: Float[Tensor, "n 2"], rate: float) -> tuple[Normal, float]:
    """What is normal, and the threshold that a new clean image exceeds with a probability of at most `rate`.

    The k-th largest of n clean scores is exceeded by another with probability k / (n + 1). Raises InputError where there are
    too few clean images for the rate.
    """
    k = math.floor(rate * (len(clean) + 1))
    if k < 1:
        raise InputError(f"{len(clean)} clean images cannot show a rate of {rate:g}; give {math.ceil(1 / rate) - 1} or more")
    normal = Normal.of(clean)
    return normal, normal.scores(clean).sort(descending=True).values[k - 1].item()


def readable(seen: list[Seen]) -> Float[Tensor, "n 2"]:
    """The evidence in the images that could be read."""
    return torch.tensor([one.evidence for one in seen if one.evidence is not None]).reshape(-1, len(KINDS))


def score(seen: list[Seen], normal: Normal) -> list[Score]:
    """A score a file, the largest first."""
    values = iter(normal.scores(readable(seen)).tolist())
    scores = [Score(one.file, next(values) if one.evidence else -math.inf, one.error) for one in seen]
    return sorted(scores, key=lambda score: -score.value)


def write_verdicts(out: Path, scores: list[Score], threshold: float) -> Path:
    """A table of all files with their scores and verdicts, the most suspicious first; returns it."""

    def write(file: Path) -> None:
        with file.open("w", newline="", **NAMES) as opened:
            writer = csv.writer(opened)
            writer.writerow(("file", "score", "suspicious", "error"))
            for one in scores:
                known = one.value > -math.inf
                verdict = ("yes" if one.value > threshold else "no") if known else ""
                writer.writerow((one.file, f"{one.value:.6g}" if known else "", verdict, one.error))

    write_atomically(out / VERDICTS, write)
    return out / VERDICTS


def _claim(out: Path, settings: dict) -> None:
    record = out / RECORD
    if record.exists() and json.loads(record.read_text(encoding="utf-8")) != settings:
        raise InputError(f"{out} holds the evidence of other encoders or of another folder; give another --out")
    write_json(record, settings)
