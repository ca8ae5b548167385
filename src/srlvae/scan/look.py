"""Everything that a scan keeps of an image: the evidence, what kind of picture it is, and a small picture to tell copies by."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from PIL import Image
from torch import nn

from srlvae.errors import InputError, UnreadableError
from srlvae.events import Listener
from srlvae.images import Images
from srlvae.models.pairs import check_like, differences
from srlvae.models.vae import VAE
from srlvae.precision import Precision, computing
from srlvae.scan.copies import SIDE, thumbnail
from srlvae.scan.evidence import EVIDENCE, PATCH, TILE, evidence, evidence_of_image
from srlvae.scan.likeness import TRAITS, likeness
from srlvae.training.precision import chosen_precision

LOOK = (*EVIDENCE, *TRAITS, "thumbnail")


@dataclass(frozen=True)
class Look:
    """What was seen in an image: the columns of EVIDENCE, those of TRAITS, and the levels of its thumbnail."""

    evidence: tuple[float, ...]
    likeness: tuple[float, ...]
    thumbnail: bytes


class Encoders:
    """The two VAEs whose encoders a scan compares, and the precision in which they look.

    Warns where one does not look like what hardening made of the other. Raises InputError if they are the same or have latents
    of different sizes, or for an unknown precision.
    """

    def __init__(self, original: VAE, hardened: VAE, precision: Precision = "auto"):
        check_like(original, hardened)
        self.original, self.hardened, self.precision = original, hardened, chosen_precision(precision)
        # Evidence of one precision is not compared with that of another.
        self.identity = {"original": original.fingerprint(), "hardened": hardened.fingerprint(), "precision": self.precision}
        if self.identity["original"] == self.identity["hardened"]:
            raise InputError("the two VAEs are one and the same; give a VAE and what srlvae harden made of it")
        for doubt in differences(original, hardened):
            warnings.warn(doubt, stacklevel=2)

    def on(self, device: torch.device | str) -> Encoders:
        """A copy on another device."""
        copied = copy.deepcopy(self)
        for vae in (copied.original, copied.hardened):
            nn.Module.to(vae.model, device)
        return copied

    def check_size(self, name: str, image: Image.Image) -> Image.Image:
        """Return a picture. Raises UnreadableError for one smaller than a patch in which the encoders are compared."""
        least = PATCH * self.original.factor
        if min(image.size) < least:
            raise UnreadableError(name, f"{image.width} x {image.height} pixels: too small to be judged, which takes {least}")
        return image

    def look(self, x: Images, listener: Listener | None = None) -> list[Look]:
        """Look at images `b 3 h w` in [0,1]. Those larger than a tile are looked at one by one.

        The listener's wish to stop raises KeyboardInterrupt between tiles.
        """
        listener = listener or Listener()
        x = x.to(self.original.device, memory_format=torch.channels_last)
        with computing(self.precision, self.original.device):
            if max(x.shape[2:]) <= TILE:
                found = evidence(self.original, self.hardened, x).cpu()
            else:
                found = torch.stack([evidence_of_image(self.original, self.hardened, image, listener) for image in x])
                # Traits are of the whole picture at once, for which the CPU has the room that was asked for.
                x = x.cpu()
        traits, small = likeness(x).tolist(), [thumbnail(image) for image in x]
        columns = zip(found.tolist(), traits, small, strict=True)
        return [Look(tuple(own), tuple(kind), thumb) for own, kind, thumb in columns]


def cells(look: Look) -> tuple[str, ...]:
    """A look as the cells of LOOK in a table."""
    return (*(f"{value:.6g}" for value in (*look.evidence, *look.likeness)), look.thumbnail.hex())


def read_look(row: Mapping[str, str]) -> Look:
    """What `cells` wrote into a row. Raises KeyError, TypeError or ValueError for another row."""
    evidence, traits = (tuple(float(row[name]) for name in names) for names in (EVIDENCE, TRAITS))
    small = bytes.fromhex(row["thumbnail"])
    if not all(map(math.isfinite, (*evidence, *traits))) or len(small) != SIDE * SIDE:
        raise ValueError("these are no numbers of a picture")
    return Look(evidence, traits, small)
