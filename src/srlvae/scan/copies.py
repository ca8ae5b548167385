"""Copies of a picture among clean images: a picture that is there a hundred times is one clean image."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

# Side of the small grey picture that copies share.
SIDE = 8
# Standard deviation, in grey levels, that a small picture has at least: below, rounding is all there is.
FLAT = 8.0
# Root mean square of the difference, in standard deviations, below which two small pictures are of one picture. Copies that
# were written as JPEG of quality 40 or made half as large stay below it; of 1,500 photographs, two were nearer to another one.
SAME = 0.06


def thumbnail(x: Float[Tensor, "3 h w"]) -> bytes:
    """A small grey picture of an image, as levels row by row: copies that were compressed or resized have nearly the same."""
    small = adaptive_avg_pool2d(x.mean(0, keepdim=True), SIDE).flatten()
    return bytes((small * 255).round().clamp(0, 255).to(torch.uint8).tolist())


def distinct(thumbnails: list[bytes]) -> list[int]:
    """The numbers of the pictures that are no copies of one before them, however light or strong in contrast the copy is."""
    if not thumbnails:
        return []
    small = torch.tensor([list(one) for one in thumbnails], dtype=torch.float32).reshape(len(thumbnails), SIDE * SIDE)
    small = (small - small.mean(1, keepdim=True)) / small.std(1, correction=0, keepdim=True).clamp(min=FLAT)
    kept: list[int] = []
    for i, one in enumerate(small):
        if not kept or (small[kept] - one).square().mean(1).min().sqrt() >= SAME:
            kept.append(i)
    return kept
