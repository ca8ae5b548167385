"""What a perturbation is made of: the picture's own contrast, which a faithful encoder has to pass on, and the rest."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from srlvae.images import Images

# Standard deviations in pixels, octaves apart, between which the bands lie.
WIDTHS = (1.0, 2.0, 4.0, 8.0)


def split_contrast(x: Images, delta: Images) -> tuple[Images, Images]:
    """Split perturbations `delta` of `x` into a part that is linear in the picture's own bands, and the rest.

    In each colour the first part is Σ aₖ bₖ + c with the numbers aₖ and c for which the rest is smallest in the sum of squares,
    so that the energies of both add up to that of `delta`. The bands bₖ are the differences of the picture blurred by
    successive WIDTHS, its finest detail, and what the widest blur leaves. c moves the brightness.
    """
    columns = torch.stack([*bands(x), torch.ones_like(x)], dim=-1).flatten(2, 3).double()
    wanted = delta.flatten(2).unsqueeze(-1).double()
    # A flat picture has no bands: the pseudo-inverse leaves their numbers at zero.
    numbers = torch.linalg.pinv(columns.mT @ columns, hermitian=True) @ (columns.mT @ wanted)
    contrast = (columns @ numbers).view_as(delta).to(delta)
    return contrast, delta - contrast


def bands(x: Images) -> list[Images]:
    """The octave bands of images, from the finest; they add up to the images."""
    lows = [x, *(_blurred(x, width) for width in WIDTHS)]
    return [fine - coarse for fine, coarse in zip(lows, lows[1:], strict=False)] + [lows[-1]]


def _blurred(x: Images, width: float) -> Images:
    """A Gaussian blur, with edges repeated."""
    reach = round(3 * width)
    distance = torch.arange(-reach, reach + 1).to(x)
    kernel = (-distance.square() / (2 * width**2)).exp()
    kernel = (kernel / kernel.sum()).expand(3, 1, -1)
    x = F.conv2d(F.pad(x, (0, 0, reach, reach), mode="replicate"), kernel[..., None], groups=3)
    return F.conv2d(F.pad(x, (reach, reach, 0, 0), mode="replicate"), kernel[:, :, None], groups=3)
