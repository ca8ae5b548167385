"""Small stand-ins for what is large: a random feature network and pictures held in memory."""

from __future__ import annotations

import torch
from PIL import Image
from torch.nn import functional as F

from srlvae.errors import InputError
from srlvae.metrics.features import Features


class RandomFeatures(Features):
    """Two stages of smooth random convolutions; counts the images it sees."""

    name = "random"

    def __init__(self):
        super().__init__()
        draws = torch.Generator().manual_seed(0)
        self.fine = torch.randn(6, 3, 3, 3, generator=draws)
        self.coarse = torch.randn(8, 6, 3, 3, generator=draws) / 4
        self.seen = 0

    def columns(self, x, stages=None):
        self.seen += len(x)
        fine = F.conv2d(x - 0.5, self.fine, stride=2, padding=1).tanh()
        coarse = F.conv2d(fine, self.coarse, stride=2, padding=1).tanh()
        return [F.normalize(fine, dim=1), F.normalize(coarse, dim=1)][:stages]


class Pictures:
    """Photographs in memory; the numbers in `broken` cannot be read."""

    def __init__(self, images: list[Image.Image], broken: tuple[int, ...] = ()):
        self.images, self.broken = images, broken

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Image.Image:
        if index in self.broken:
            raise InputError(f"picture {index} is broken")
        return self.images[index]


def flat_pictures(count: int, side: int = 24, broken: tuple[int, ...] = ()) -> Pictures:
    """Picture i is grey of level i all over, so that every crop tells where it is from."""
    return Pictures([Image.new("RGB", (side, side + 5), (i, i, i)) for i in range(count)], broken)


def level(crop: torch.Tensor) -> int:
    """The grey level of a flat crop."""
    return round(crop[0, 0, 0].item() * 255)
