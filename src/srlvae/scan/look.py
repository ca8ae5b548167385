"""Everything that a scan keeps of an image: the evidence, what kind of picture it is, and a small picture to tell copies by."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from srlvae.models.vae import VAE
from srlvae.scan.copies import SIDE, thumbnail
from srlvae.scan.evidence import EVIDENCE, evidence_of_image
from srlvae.scan.likeness import TRAITS, likeness

LOOK = (*EVIDENCE, *TRAITS, "thumbnail")


@dataclass(frozen=True)
class Look:
    """What was seen in an image: the columns of EVIDENCE, those of TRAITS, and the levels of its thumbnail."""

    evidence: tuple[float, ...]
    likeness: tuple[float, ...]
    thumbnail: bytes


def cells(original: VAE, hardened: VAE, x: Float[Tensor, "3 h w"]) -> tuple[str, ...]:
    """What is seen in an image, as the cells of LOOK in a table."""
    numbers = [*evidence_of_image(original, hardened, x).tolist(), *likeness(x[None])[0].tolist()]
    return (*(f"{value:.6g}" for value in numbers), thumbnail(x).hex())


def read_look(row: Mapping[str, str]) -> Look:
    """What `cells` wrote into a row. Raises KeyError, TypeError or ValueError for another row."""
    evidence, traits = (tuple(float(row[name]) for name in names) for names in (EVIDENCE, TRAITS))
    small = bytes.fromhex(row["thumbnail"])
    if not all(map(math.isfinite, (*evidence, *traits))) or len(small) != SIDE * SIDE:
        raise ValueError("these are no numbers of a picture")
    return Look(evidence, traits, small)
