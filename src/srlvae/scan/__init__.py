"""Scanning a folder for perturbed images, by how differently the original and the hardened encoder see each image.

An image is compared with what the hardened VAE makes of it, y = D(E(x)), which shows the same but is free of the perturbation.
On a clean image, both encoders see the same difference between the two. A perturbation makes a larger difference to the
original encoder. How well the encoders agree also depends on how far apart they are anyway, so what is normal is given by a
regression over clean images.
"""

from __future__ import annotations

from srlvae.scan.calibration import Normal, calibrate, check_enough
from srlvae.scan.evidence import EVIDENCE
from srlvae.scan.folder import Score, clean_evidence, readable, scan, score, write_verdicts

__all__ = [
    "EVIDENCE",
    "Normal",
    "Score",
    "calibrate",
    "check_enough",
    "clean_evidence",
    "readable",
    "scan",
    "score",
    "write_verdicts",
]
