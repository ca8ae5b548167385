"""Scanning a folder for perturbed images, by how differently the original and the hardened encoder see each image.

An image is compared with what the hardened VAE makes of it, y = D(E(x)), which shows the same but is free of the perturbation.
On a clean image, both encoders see the same difference between the two. A perturbation makes a larger difference to the
original encoder. How well the encoders agree also depends on how far apart they are anyway, and on how much there is to see,
which the same picture tells with its detail scrambled; so what is normal is given by a regression over clean images. It holds
for images like those. Others are said to be unlike them, whatever their evidence.
"""

from __future__ import annotations

from srlvae.scan.calibration import Calibration, Normal, calibrate, calibrate_looks, calibrate_scan, check_enough
from srlvae.scan.evidence import EVIDENCE
from srlvae.scan.folder import scan
from srlvae.scan.look import Encoders
from srlvae.scan.places import clean_evidence, place_of
from srlvae.scan.shards import scan_shards
from srlvae.scan.verdicts import Count, Score, count, score, write_summary, write_verdicts

__all__ = [
    "Calibration",
    "Count",
    "EVIDENCE",
    "Encoders",
    "Normal",
    "Score",
    "calibrate",
    "calibrate_looks",
    "calibrate_scan",
    "check_enough",
    "clean_evidence",
    "count",
    "place_of",
    "scan",
    "scan_shards",
    "score",
    "write_summary",
    "write_verdicts",
]
