"""Which images are like the clean ones, and what sets others apart."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from srlvae.scan.likeness import TRAITS

# An image is as far from the clean images as from the eighth nearest of them: one or two odd ones are no kind.
NEIGHBOURS = 8
# Share of clean images that lie further from the others than what is called like them.
UNLIKE = 0.02


@dataclass(frozen=True)
class Familiar:
    """The clean images by their traits, in standard deviations, and the distance within which an image is like them."""

    clean: Float[Tensor, "n t"]
    scale: Float[Tensor, " t"]
    reach: float

    def distances(self, likeness: Float[Tensor, "m t"]) -> Float[Tensor, " m"]:
        """How far each image is from the clean ones: its distance to the NEIGHBOURS-th nearest."""
        return _nearest(self.places(likeness), self.clean, NEIGHBOURS)

    def beyond(self, likeness: Float[Tensor, "m t"]) -> Float[Tensor, " m"]:
        """How much further each image is from the clean ones than what is like them, 0 where it is like them."""
        return (self.distances(likeness) - self.reach).clamp(min=0)

    def unlike(self, likeness: Float[Tensor, "m t"]) -> list[str]:
        """Why each image is unlike the clean ones: the trait that differs most. Blank where it is like them."""
        far = self.beyond(likeness) > 0
        return [self._reason(own) if is_far else "" for own, is_far in zip(self.places(likeness), far, strict=True)]

    def places(self, likeness: Float[Tensor, "m t"]) -> Float[Tensor, "m t"]:
        """Where each image lies among the traits, in standard deviations of the clean ones."""
        return compared(likeness) / self.scale

    def _reason(self, own: Float[Tensor, " t"]) -> str:
        """The trait in which the image is furthest from its nearest clean images."""
        near = self.clean[(self.clean - own).square().sum(1).argsort()[:NEIGHBOURS]].mean(0)
        most = int((own - near).abs().argmax())
        trait = list(TRAITS.values())[most]
        return trait.more if own[most] > near[most] else trait.less


def compared(likeness: Float[Tensor, "m t"]) -> Float[Tensor, "m t"]:
    """The traits on the scales that they are compared on."""
    return torch.stack([trait.compared(likeness[:, i]) for i, trait in enumerate(TRAITS.values())], 1)


def familiar(likeness: Float[Tensor, "n t"]) -> tuple[Familiar, Float[Tensor, " n"]]:
    """What clean images are like, and how far each of them is beyond what is like the others, 0 where it is like them."""
    traits = compared(likeness)
    least = torch.tensor([trait.least for trait in TRAITS.values()]).to(traits)
    scale = torch.maximum(traits.std(0), least)
    # Each one is the nearest to itself.
    own = _nearest(traits / scale, traits / scale, NEIGHBOURS + 1)
    beyond = min(math.floor(UNLIKE * (len(own) + 1)), len(own) - 1)
    reach = own.sort(descending=True).values[max(beyond, 1) - 1].item()
    return Familiar(traits / scale, scale, reach), (own - reach).clamp(min=0)


def _nearest(x: Float[Tensor, "m t"], clean: Float[Tensor, "n t"], k: int) -> Float[Tensor, " m"]:
    parts = [torch.cdist(part, clean).kthvalue(min(k, len(clean)), dim=1).values for part in x.split(1024)]
    return torch.cat(parts) if parts else torch.zeros(0)
