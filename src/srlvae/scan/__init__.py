"""Which images of a folder were perturbed: on those the original and the hardened encoder part as on no clean one.

The image is compared with what the hardened VAE makes of it, y = D(E(x)), which shows the same and is free of the perturbation.
On a clean image both encoders see the same difference between the two; a perturbation is more of a difference to the original.
How alike they see it depends on how far they disagree anyway: what is normal is a regression over clean images.
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
