"""What evidence is normal on clean images, and the score above which an image is suspicious."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from srlvae.errors import InputError
from srlvae.scan.copies import distinct
from srlvae.scan.evidence import EVIDENCE, SIGNS, TINY
from srlvae.scan.familiar import Familiar, familiar
from srlvae.scan.likeness import TRAITS
from srlvae.scan.look import Look
from srlvae.scan.surroundings import Surroundings

# Five images always lie on a plane of four regressors; what is left of others tells how far images lie from it.
FEWEST = 6
# How much higher the score of an image must be for each standard deviation that it lies beyond what is like the clean images.
# Perturbed photographs at the border have as much to spare; halftones, noise and the like have not.
FURTHER = 4.0


@dataclass(frozen=True)
class Normal:
    """The evidence that clean images have.

    `weights` are the least-squares regression of parting and change on the other columns of EVIDENCE and 1. `deviations` are
    the standard deviations of the residuals.
    """

    weights: Float[Tensor, "r 2"]
    deviations: Float[Tensor, " 2"]

    def scores(self, found: Float[Tensor, "n e"]) -> Float[Tensor, " n"]:
        """The score of each image: how far its parting and its change lie above normal, in standard deviations, added up."""
        return ((found[:, :SIGNS] - _regressors(found) @ self.weights) / self.deviations).sum(1).float()


def _regressors(found: Float[Tensor, "n e"]) -> Float[Tensor, "n r"]:
    return torch.cat([found[:, SIGNS:], torch.ones(len(found), 1)], 1).double()


def check_enough(n: int, rate: float, note: str = "") -> None:
    """Raise InputError, with a note, if `n` clean images are too few to show a false-alarm rate of `rate`."""
    if math.floor(rate * (n + 1)) < 1 or n < FEWEST:
        needed = max(math.ceil(1 / rate) - 1, FEWEST)
        higher = ", or a higher rate" if n >= FEWEST else ""
        raise InputError(f"{n} clean images{note} are too few for a rate of {rate:g}; give {needed} or more{higher}")


def calibrate(clean: Float[Tensor, "n e"], rate: float) -> tuple[Normal, float]:
    """Fit what is normal, and find the threshold that a new clean image exceeds with a probability of at most `rate`.

    Every clean image is scored by the regression on all the others.

    Raises InputError if there are too few clean images for the rate.
    """
    check_enough(len(clean), rate)
    normal, scores = _fit(clean)
    return normal, _threshold(scores, rate)


def _threshold(scores: Float[Tensor, " n"], rate: float) -> float:
    """The k-th largest of n scores of clean images, which another one exceeds with probability k / (n + 1)."""
    k = min(math.floor(rate * (len(scores) + 1)), len(scores))
    return scores.sort(descending=True).values[k - 1].item()


def _fit(clean: Float[Tensor, "n e"]) -> tuple[Normal, Float[Tensor, " n"]]:
    """The regression, and the score of each image by the regression without it."""
    regressors, signs = _regressors(clean), clean[:, :SIGNS].double()
    inverse = torch.linalg.pinv(regressors)
    weights = inverse @ signs
    residuals = (signs - regressors @ weights) / (1 - (regressors * inverse.T).sum(1, keepdim=True)).clamp(min=TINY)
    deviations = residuals.std(0).clamp(min=TINY)
    return Normal(weights, deviations), (residuals / deviations).sum(1).float()


@dataclass(frozen=True)
class Calibration:
    """What clean images are like, what evidence is normal on them, and the score above which an image like them is suspicious.

    images: how many clean images there were, copies of a picture counted once. copies: those that were not counted.
    """

    normal: Normal
    surroundings: Surroundings
    familiar: Familiar
    threshold: float
    rate: float
    images: int
    copies: int = 0

    def scores(self, evidence: Float[Tensor, "n e"], traits: Float[Tensor, "n t"]) -> Float[Tensor, " n"]:
        """The score of each image, with a gradient on the evidence."""
        known = self.familiar
        return _scores(self.normal, self.surroundings, evidence, known.places(traits), known.beyond(traits))

    def fingerprint(self) -> str:
        """The SHA-256 of what scores and verdicts follow from."""
        parts = (self.normal.weights, self.normal.deviations, self.surroundings.scores, self.familiar.clean)
        said = b"".join(part.numpy().tobytes() for part in parts) + repr(self.threshold).encode()
        return hashlib.sha256(said).hexdigest()

    def judge(self, evidence: Float[Tensor, "n e"], traits: Float[Tensor, "n t"]) -> tuple[Float[Tensor, " n"], list[str]]:
        """The score of each image, and why it is unlike the clean ones: blank where it is like them, or clearly suspicious."""
        scores = self.scores(evidence, traits)
        reasons = zip(scores.tolist(), self.familiar.unlike(traits), strict=True)
        return scores, [reason if score <= self.threshold else "" for score, reason in reasons]


def _scores(
    normal: Normal,
    around: Surroundings,
    evidence: Float[Tensor, "n e"],
    places: Float[Tensor, "n t"],
    beyond: Float[Tensor, " n"],
) -> Float[Tensor, " n"]:
    return around.standard(normal.scores(evidence), places) - FURTHER * beyond


def calibrate_scan(evidence: Float[Tensor, "n e"], traits: Float[Tensor, "n t"], rate: float, copies: int = 0) -> Calibration:
    """Calibrate a scan on the evidence in clean images and on their traits, the columns of EVIDENCE and TRAITS.

    Clean images that are unlike the others have no part in what is normal, and need more evidence, as any others do. copies:
    how many more were left out as copies. Raises InputError if there are too few clean images for the rate.
    """
    check_enough(len(evidence), rate, f" ({copies} more are copies of them)" if copies else "")
    known, beyond = familiar(traits)
    like = beyond == 0
    normal, own = _fit(evidence[like])
    around = Surroundings(known.clean[like], own)
    others = _scores(normal, around, evidence[~like], known.clean[~like], beyond[~like])
    scores = torch.cat([around.standard(own, known.clean[like], skip=1), others])
    return Calibration(normal, around, known, _threshold(scores, rate), rate, len(evidence), copies)


def calibrate_looks(looks: list[Look], rate: float) -> Calibration:
    """Calibrate a scan on what was seen in clean images, copies of a picture counted once.

    Raises InputError if there are too few for the rate.
    """
    kept = [looks[i] for i in distinct([look.thumbnail for look in looks])]
    # Of no image, too, with all columns.
    evidence = torch.tensor([one.evidence for one in kept]).reshape(len(kept), len(EVIDENCE))
    traits = torch.tensor([one.likeness for one in kept]).reshape(len(kept), len(TRAITS))
    return calibrate_scan(evidence, traits, rate, copies=len(looks) - len(kept))
