"""What kind of picture an image is, by statistics that an attack within 16/255 hardly moves.

A threshold holds for pictures of the kind that it was found on. These statistics tell whether an image is of that kind, so
they must not depend on whether it was perturbed: tones and contrasts are those of means over 4 × 4 pixels, and fine detail
counts as none where it is no more than attacks of 16/255 make. Noise that is drawn for each pixel alone makes more than they.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d, pad

from srlvae.images import Images, pad_to_multiple


@dataclass(frozen=True)
class Trait:
    """A statistic of a picture.

    more, less: what is said of a picture that has more or less of it than the clean ones. floor: below it all values are the
    same; None where the statistic is compared as it is, otherwise its logarithm is. least: the smallest standard deviation
    that it is taken to have.
    """

    more: str
    less: str
    floor: float | None = None
    least: float = 0.03

    def compared(self, values: Tensor) -> Tensor:
        """The values on the scale that pictures are compared on."""
        return values if self.floor is None else values.clamp(min=self.floor).log()


# In the order of the columns of `likeness`.
TRAITS = {
    "calmest": Trait("noisy or patterned even where it is smoothest", "less noise", 0.046, 0.05),
    "calm": Trait("noisy or patterned nearly everywhere", "less noise", 0.05, 0.05),
    "texture": Trait("more texture", "less texture", 0.06, 0.1),
    "detail": Trait("stronger detail", "no strong detail", 0.04, 0.1),
    "colour noise": Trait("noise of colour", "less noise of colour", 0.022, 0.05),
    "coarse colour noise": Trait("coarse noise of colour", "less noise of colour", 0.019, 0.05),
    "specks": Trait("single black or white pixels", "fewer specks", 0.0007, 0.3),
    "hardness": Trait("harder edges and dots", "no hard edge", 0.002, 0.1),
    "contrast": Trait("more contrast", "less contrast", 0.03, 0.1),
    "lights": Trait("lighter lights", "darker", 0.1, 0.1),
    "shadows": Trait("lighter shadows", "darker shadows", 0.1, 0.1),
    "colour": Trait("more colour", "less colour", 0.02, 0.1),
    "tones": Trait("more tones", "fewer tones"),
    "flatness": Trait("more flat areas", "fewer flat areas"),
    "steepness": Trait("more edges", "fewer edges"),
}
GREY = (0.299, 0.587, 0.114)
# A binomial blur; what it takes away is fine detail.
BLUR = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)
BLOCK, SMALL, TONES = 8, 4, 8
# Steps between neighbouring 2 × 2 means that count as none and as an edge; what of fine detail 16/255 can make; and by how
# much a speck differs from its neighbours.
FLAT, STEEP, SOFT, SPECK = 32 / 255, 64 / 255, 32 / 255, 96 / 255


def likeness(x: Images) -> Float[Tensor, "b t"]:
    """The statistics of TRAITS for images `b 3 h w` in [0,1]."""
    x = pad_to_multiple(x, BLOCK)
    small = avg_pool2d(x, SMALL)
    colour = small - small.mean(1, keepdim=True)
    levels = _grey(small).flatten(1)
    columns = [*_detail(x), levels.std(1, correction=0)]
    columns += [levels.quantile(0.95, dim=1), levels.quantile(0.05, dim=1), colour.square().mean((1, 2, 3)).sqrt()]
    columns += [_entropy(_grey(x)), *_steps(avg_pool2d(x, 2))]
    return torch.stack(columns, 1)


def _grey(x: Images) -> Float[Tensor, "b h w"]:
    return (x * torch.tensor(GREY).to(x)[:, None, None]).sum(1)


def _detail(x: Images) -> list[Tensor]:
    """The root mean square of fine detail in blocks, at quantiles over blocks, that of its colour, and what no ε makes."""
    fine, coarse = _fine(x), _fine(avg_pool2d(x, 2))
    quantiles = _in_blocks(fine, BLOCK).quantile(torch.tensor([0.1, 0.25, 0.5, 0.9]).to(x), dim=1)
    colours = [_in_blocks(z - z.mean(1, keepdim=True), side) for z, side in ((fine, BLOCK), (coarse, BLOCK // 2))]
    hard = (fine.abs() - SOFT).clamp(min=0).mean((1, 2, 3))
    return [*quantiles, *(colour.quantile(0.25, dim=1) for colour in colours), _specks(x), hard]


def _specks(x: Images) -> Float[Tensor, " b"]:
    """The share of values that lie far above or below those of all four neighbours."""
    near = pad(x, (1, 1, 1, 1), mode="replicate")
    left, right, up, down = near[..., 1:-1, :-2], near[..., 1:-1, 2:], near[..., :-2, 1:-1], near[..., 2:, 1:-1]
    highest = left.maximum(right).maximum(up).maximum(down)
    lowest = left.minimum(right).minimum(up).minimum(down)
    return ((x > highest + SPECK) | (x < lowest - SPECK)).float().mean((1, 2, 3))


def _fine(x: Tensor) -> Tensor:
    """What a blur takes away."""
    taps = torch.tensor(BLUR).to(x)
    return x - conv2d(pad(x, (2, 2, 2, 2), mode="replicate"), (taps[:, None] * taps).expand(3, 1, 5, 5), groups=3)


def _in_blocks(z: Tensor, side: int) -> Float[Tensor, "b n"]:
    """The root mean square in every square of `side` pixels."""
    return avg_pool2d(z.square().mean(1, keepdim=True), side).sqrt().flatten(1)


def _entropy(grey: Float[Tensor, "b h w"]) -> Float[Tensor, " b"]:
    """How evenly tones are used, in nats."""
    bins = (grey * TONES).long().clamp(0, TONES - 1).flatten(1)
    shares = torch.stack([(bins == tone).float().mean(1) for tone in range(TONES)], 1)
    return torch.special.entr(shares).sum(1)


def _steps(x: Images) -> list[Tensor]:
    """The shares of neighbours that hardly differ, and of those that differ much."""
    across, down = (x[..., 1:] - x[..., :-1]).abs().amax(1), (x[..., 1:, :] - x[..., :-1, :]).abs().amax(1)
    steps = torch.cat([across.flatten(1), down.flatten(1)], 1)
    return [(steps < FLAT).float().mean(1), (steps > STEEP).float().mean(1)]
