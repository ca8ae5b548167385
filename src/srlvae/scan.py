"""Which images of a folder were perturbed: on those the original and the hardened encoder part as on no clean one.

The image is compared with what the hardened VAE makes of it, y = D(E(x)), which shows the same and is free of the perturbation.
On a clean image both encoders see the same difference between the two; a perturbation is more of a difference to the original.
How alike they see it depends on how far they disagree anyway: what is normal is a regression over clean images.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import avg_pool2d

from srlvae.errors import InputError
from srlvae.files import write_atomically, write_json
from srlvae.images import find_images, pad_to_multiple, read_image
from srlvae.vae import VAE, Images, Latents

# Evidence as it comes, a file a process; the table of all at the end.
TABLE, RECORD = "evidence-{}.csv", "scan.json"
VERDICTS, SUMMARY = "scan.csv", "verdict.json"
EVIDENCE = ("parting", "change", "disagreement")
COLUMNS = ("file", "version", *EVIDENCE, "error")
# Names of files need not be text.
NAMES: Any = {"encoding": "utf-8", "errors": "surrogateescape"}
# Larger images are seen in tiles of this side, so that memory does not grow with them.
TILE = 512
# Side, in latents, of the patches in which the encoders are compared.
PATCH = 4
# Two images always lie on a line; what is left of others tells how far images lie from it.
FEWEST = 4
# Nothing is zero, for logarithms and quotients.
TINY = 1e-6

Done = Callable[[int, int], None]


@dataclass(frozen=True)
class Seen:
    """version: of the file, by its size and time. evidence: see `evidence`; None where the file could not be read, with the
    reason in `error`."""

    file: str
    version: str
    evidence: tuple[float, ...] | None
    error: str = ""


@dataclass(frozen=True)
class Score:
    """value: None where the file could not be read, with the reason in `error`."""

    file: str
    value: float | None
    error: str = ""

    def above(self, threshold: float) -> bool:
        return self.value is not None and self.value > threshold


@torch.no_grad()
def evidence(original: VAE, hardened: VAE, x: Images) -> Float[Tensor, "b 3"]:
    """The columns of EVIDENCE for images, with y = D(E(x)), u = E₀(x) − E₀(y) and v = E(x) − E(y):

    parting: minus the cosine between u and v in a patch, median over patches;
    change: log of the root mean square of u − v over channels, mean over places; and what both go with on clean images,
    disagreement: log of the root mean square of E₀(y) − E(y).
    """
    x = pad_to_multiple(x, original.factor)
    before, after = original.mean(x), hardened.mean(x)
    y = hardened.decode(after).clamp(0, 1)
    before_y, after_y = original.mean(y), hardened.mean(y)
    u, v = before - before_y, after - after_y
    cosine = _in_patches(u * v) / (_in_patches(u * u) * _in_patches(v * v)).sqrt().clamp(min=TINY)
    change = (u - v).square().mean(1).sqrt().clamp(min=TINY).log().mean((1, 2))
    disagreement = (before_y - after_y).square().mean((1, 2, 3)).sqrt().clamp(min=TINY).log()
    return torch.stack([-cosine.median(1).values, change, disagreement], 1)


def _in_patches(z: Latents) -> Float[Tensor, "b n"]:
    """Means over channels and the places of a patch."""
    return avg_pool2d(z.mean(1, keepdim=True), min(PATCH, *z.shape[2:])).flatten(1)


def evidence_of_image(original: VAE, hardened: VAE, x: Float[Tensor, "3 h w"]) -> Float[Tensor, " 3"]:
    """The evidence in an image of any size: the mean over its tiles, by their area."""
    tiles = [tile for band in x.split(TILE, dim=1) for tile in band.split(TILE, dim=2)]
    areas = torch.tensor([float(tile.shape[1] * tile.shape[2]) for tile in tiles])
    found = torch.cat([evidence(original, hardened, tile[None].to(original.device)).cpu() for tile in tiles])
    return (found * areas[:, None]).sum(0) / areas.sum()


@dataclass(frozen=True)
class Normal:
    """What is normal: parting and change on clean images by least squares on disagreement and 1, and the standard deviations of
    what is left."""

    weights: Float[Tensor, "2 2"]
    deviations: Float[Tensor, " 2"]

    def scores(self, found: Float[Tensor, "n 3"]) -> Float[Tensor, " n"]:
        """How far parting and change are above what is normal, in standard deviations, the sum of both."""
        return ((found[:, :2] - _regressors(found) @ self.weights) / self.deviations).sum(1).float()


def _regressors(found: Float[Tensor, "n 3"]) -> Float[Tensor, "n 2"]:
    return torch.stack([found[:, 2], torch.ones(len(found))], 1).double()


def scan(original: VAE, hardened: VAE, folder: Path, out: Path, done: Done = lambda number, total: None) -> list[Seen]:
    """Look at every image below `folder`, line by line into `out`/evidence-0.csv; returns what was seen.

    One image is in memory at a time, and files that are listed already and have not changed since are passed over, so that a
    run which was cut off goes on. Processes that run together share the files out. A file that cannot be read gets a line that
    says so, and another look the next time. Raises InputError where `out` holds the evidence of other encoders or of another
    folder, and for encoders that are no twins.
    """
    paths, state = find_images(folder), PartialState()
    vaes = {"original": original.fingerprint(), "hardened": hardened.fingerprint()}
    if (original.channels, original.factor) != (hardened.channels, hardened.factor):
        raise InputError("the two VAEs have latents of different sizes; give a VAE and what srlvae harden made of it")
    if vaes["original"] == vaes["hardened"]:
        raise InputError("the two VAEs are one and the same; give a VAE and what srlvae harden made of it")
    _claim(out, {**vaes, "folder": str(folder.resolve()), "evidence": list(COLUMNS)})
    files = [(path, *_identity(path, folder)) for path in paths]
    share = files[state.process_index :: state.num_processes]
    table = out / TABLE.format(state.process_index)
    fresh = not _mend(table)
    known = {(seen.file, seen.version) for seen in read_evidence(out) if seen.evidence}
    with table.open("a", newline="", **NAMES) as file:
        writer = csv.writer(file)
        if fresh:
            writer.writerow(COLUMNS)
        for number, (path, name, version) in enumerate(share, 1):
            if (name, version) not in known:
                writer.writerow((name, version, *_looked_at(original, hardened, path)))
                file.flush()
            done(number, len(share))
    state.wait_for_everyone()
    # Of the files that are there, evidence before an error: another look may have had more luck.
    looks = sorted(read_evidence(out), key=lambda seen: seen.evidence is not None)
    found = {(seen.file, seen.version): seen for seen in looks}
    return [found[name, version] for _, name, version in files if (name, version) in found]


def clean_evidence(out: Path, clean: Path) -> Path:
    """Where the evidence of a folder of clean images goes, so that another folder of them costs no more than itself."""
    return out / f"clean-{hashlib.sha256(os.fsencode(clean.resolve())).hexdigest()[:8]}"


def _identity(path: Path, folder: Path) -> tuple[str, str]:
    """The name of a file below a folder, and what changes when it is replaced."""
    about = path.stat()
    return path.relative_to(folder).as_posix() if path != folder else path.name, f"{about.st_size}-{about.st_mtime_ns}"


def _mend(table: Path) -> bool:
    """Take away the half line at the end of a table whose run was cut off; whether there is a table."""
    if not table.exists():
        return False
    with table.open("rb+") as file:
        return file.truncate(file.read().rfind(b"\n") + 1) > 0


def _looked_at(original: VAE, hardened: VAE, path: Path) -> tuple[str, ...]:
    try:
        found = evidence_of_image(original, hardened, read_image(path)).tolist()
        return (*(f"{value:.6g}" for value in found), "")
    except InputError as error:
        return (*[""] * len(EVIDENCE), str(error))


def read_evidence(out: Path) -> Iterator[Seen]:
    """What was seen so far, from a folder of `scan`."""
    for table in sorted(out.glob(TABLE.format("*"))):
        with table.open(newline="", **NAMES) as file:
            for row in csv.DictReader(file):
                # Else half a line, of a process that was cut off.
                if row["error"] is not None:
                    found = None if row["error"] else tuple(float(row[name]) for name in EVIDENCE)
                    yield Seen(row["file"], row["version"], found, row["error"])


def check_enough(n: int, rate: float) -> None:
    """Raises InputError where n clean images cannot show that rate."""
    if math.floor(rate * (n + 1)) < 1 or n < FEWEST:
        needed = max(math.ceil(1 / rate) - 1, FEWEST)
        raise InputError(f"{n} clean images cannot show a rate of {rate:g}; give {needed} or more")


def calibrate(clean: Float[Tensor, "n 3"], rate: float) -> tuple[Normal, float]:
    """What is normal, and the threshold that a new clean image exceeds with a probability of at most `rate`.

    The k-th largest of n clean scores is exceeded by another with probability k / (n + 1); each is scored by the regression on
    all others. Raises InputError where there are too few clean images for the rate.
    """
    check_enough(len(clean), rate)
    k = min(math.floor(rate * (len(clean) + 1)), len(clean))
    regressors, signs = _regressors(clean), clean[:, :2].double()
    inverse = torch.linalg.pinv(regressors)
    weights = inverse @ signs
    # The residual of the regression without that image.
    residuals = (signs - regressors @ weights) / (1 - (regressors * inverse.T).sum(1, keepdim=True)).clamp(min=TINY)
    deviations = residuals.std(0).clamp(min=TINY)
    scores = (residuals / deviations).sum(1).sort(descending=True).values
    return Normal(weights, deviations), scores[k - 1].item()


def readable(seen: list[Seen]) -> Float[Tensor, "n 3"]:
    """The evidence in the images that could be read."""
    return torch.tensor([one.evidence for one in seen if one.evidence is not None]).reshape(-1, len(EVIDENCE))


def score(seen: list[Seen], normal: Normal) -> list[Score]:
    """A score a file, the largest first."""
    values = iter(normal.scores(readable(seen)).tolist())
    scores = [Score(one.file, next(values) if one.evidence else None, one.error) for one in seen]
    return sorted(scores, key=lambda score: math.inf if score.value is None else -score.value)


def write_verdicts(out: Path, scores: list[Score], threshold: float, clean: Path, rate: float) -> Path:
    """A table of all files with their scores and verdicts, the most suspicious first, and beside it what they rest on; returns
    the table."""

    def write(file: Path) -> None:
        with file.open("w", newline="", **NAMES) as opened:
            writer = csv.writer(opened)
            writer.writerow(("file", "score", "suspicious", "error"))
            for one in scores:
                cells = ("", "") if one.value is None else (f"{one.value:.6g}", "yes" if one.above(threshold) else "no")
                writer.writerow((one.file, *cells, one.error))

    write_atomically(out / VERDICTS, write)
    unreadable = sum(one.value is None for one in scores)
    about = {"threshold": threshold, "rate": rate, "clean": str(clean.resolve()), "images": len(scores) - unreadable}
    about |= {"suspicious": sum(one.above(threshold) for one in scores), "unreadable": unreadable}
    write_json(out / SUMMARY, about)
    return out / VERDICTS


def _claim(out: Path, settings: dict) -> None:
    record = out / RECORD
    if record.exists() and json.loads(record.read_text(encoding="utf-8")) != settings:
        raise InputError(f"{out} holds evidence of another kind, of other encoders or of another folder; give another --out")
    write_json(record, settings)
