"""Scores and verdicts: *suspicious*, *unlike the clean images*, or neither."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from srlvae.files import NAMES, write_atomically, write_json
from srlvae.scan.calibration import Calibration
from srlvae.scan.folder import FileEvidence
from srlvae.scan.look import Look
from srlvae.trust.cells import plain_cell

VERDICTS, SUMMARY = "scan.csv", "verdict.json"
Verdict = Literal["yes", "no", "unlike"]


@dataclass(frozen=True)
class Score:
    """The score of one file, or None if the file could not be read; `error` then says why.

    unlike: what sets the picture apart from the clean images, blank where it is like them.
    """

    file: str
    value: float | None
    unlike: str = ""
    error: str = ""

    def above(self, threshold: float) -> bool:
        """Whether the file is suspicious: its picture is like the clean images, and its score exceeds `threshold`."""
        return self.value is not None and not self.unlike and self.value > threshold

    def verdict(self, threshold: float) -> Verdict:
        """Whether the file is suspicious, or `unlike` where nothing can be said since no clean image is like it."""
        return "unlike" if self.unlike else "yes" if self.above(threshold) else "no"


@dataclass(frozen=True)
class Count:
    """How many files of a scan could be read, how many of those are suspicious or unlike, and how many could not be read.

    reasons: how often each is given for being unlike, the most frequent first.
    """

    images: int
    suspicious: int
    unlike: int
    unreadable: int
    reasons: dict[str, int]

    @property
    def like(self) -> int:
        """How many images are like the clean ones."""
        return self.images - self.unlike

    def __add__(self, other: Count) -> Count:
        reasons = Counter(self.reasons) + Counter(other.reasons)
        return Count(
            self.images + other.images,
            self.suspicious + other.suspicious,
            self.unlike + other.unlike,
            self.unreadable + other.unreadable,
            dict(reasons.most_common()),
        )


def score(seen: Sequence[FileEvidence], calibration: Calibration) -> list[Score]:
    """Score every file, and put the scores in order."""
    return in_order(scores_of(seen, calibration))


def scores_of(seen: Sequence[FileEvidence], calibration: Calibration) -> list[Score]:
    """The score of every file, in the order of the files."""
    found = iter(_scored([one.evidence for one in seen if one.evidence], calibration))
    return [Score(one.file, None, error=one.error) if one.evidence is None else Score(one.file, *next(found)) for one in seen]


def in_order(scores: Sequence[Score]) -> list[Score]:
    """Those like the clean images first, the highest scores before others, then those unlike them, then the unreadable."""
    return sorted(scores, key=_order)


def _order(score: Score) -> tuple[bool, bool, float]:
    return score.value is None, bool(score.unlike), -(score.value or 0.0)


def _scored(looks: list[Look], calibration: Calibration) -> list[tuple[float, str]]:
    if not looks:
        return []
    evidence, traits = torch.tensor([look.evidence for look in looks]), torch.tensor([look.likeness for look in looks])
    scores, reasons = calibration.judge(evidence, traits)
    return list(zip(scores.tolist(), reasons, strict=True))


def count(scores: Sequence[Score], threshold: float) -> Count:
    """Count the verdicts."""
    reasons = Counter(one.unlike for one in scores if one.unlike)
    readable, suspicious = sum(one.value is not None for one in scores), sum(one.above(threshold) for one in scores)
    return Count(readable, suspicious, reasons.total(), len(scores) - readable, dict(reasons.most_common()))


def write_verdicts(out: Path, scores: Sequence[Score], calibration: Calibration) -> Path:
    """Write a table of all files with scores and verdicts. Returns its path.

    A file is suspicious (`yes`) if its score is above the threshold, which images like the clean ones exceed at the rate of the
    calibration; one that is `unlike` has its reason beside it.
    """

    def write(file: Path) -> None:
        with file.open("w", newline="", **NAMES) as opened:
            writer = csv.writer(opened)
            writer.writerow(("file", "score", "suspicious", "reason", "error"))
            for one in scores:
                found = ("", "") if one.value is None else (f"{one.value:.6g}", one.verdict(calibration.threshold))
                writer.writerow((plain_cell(one.file), *found, one.unlike, plain_cell(one.error)))

    write_atomically(out / VERDICTS, write)
    return out / VERDICTS


def write_summary(out: Path, counted: Count, calibration: Calibration, clean: Path) -> None:
    """Write what was found to `out`/verdict.json, and what it rests on."""
    about = {"threshold": calibration.threshold, "rate": calibration.rate, "clean": str(clean.resolve())}
    about |= {"clean images": calibration.images, "copies among them": calibration.copies, "images": counted.images}
    about |= {"suspicious": counted.suspicious, "unlike": counted.unlike, "reasons": counted.reasons}
    write_json(out / SUMMARY, {**about, "expected": calibration.rate * counted.like, "unreadable": counted.unreadable})
