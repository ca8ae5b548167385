"""The contact sheet of attacked images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from srlvae.errors import InputError
from srlvae.images import pad_to_multiple, read_picture, tile, to_tensor, write_contact_sheet
from srlvae.models.vae import VAE

# How many images the contact sheet shows, their largest side, and how much it magnifies differences.
ROWS, SIDE, GAIN = 8, 256, 10


@torch.no_grad()
def write_sheet(vae: VAE, pairs: Sequence[tuple[Path, Path]], out: Path) -> None:
    """Show the first of `pairs` of a clean file and its attacked one, with no colour laid on white.

    A row has the middle of the image, not resized: clean, attacked, what was changed, and what the VAE makes of the attacked
    image. A file that has gone away is left out.
    """
    rows = []
    for clean, attacked in pairs[:ROWS]:
        try:
            x, adversarial = (_middle(to_tensor(read_picture(file).rgb)) for file in (clean, attacked))
        except InputError:
            continue
        padded = pad_to_multiple(adversarial[None], vae.factor).to(vae.device)
        again = vae.reconstruct(padded)[0, :, : x.shape[-2], : x.shape[-1]].cpu()
        rows.append([x, adversarial, difference(x, adversarial), again])
    if not rows:
        return
    side = [max(row[0].shape[axis] for row in rows) for axis in (1, 2)]
    cells = [[F.pad(c, (0, side[1] - c.shape[2], 0, side[0] - c.shape[1]), value=1.0) for c in row] for row in rows]
    write_contact_sheet(out, tile(cells, ("clean", "attacked", f"difference × {GAIN}", "reconstruction")))


def difference(x: Tensor, adversarial: Tensor) -> Tensor:
    """What was changed, GAIN times as strong, as a picture: grey where nothing was. It may leave [0,1]."""
    return 0.5 + GAIN * (adversarial - x)


def _middle(x: Float[Tensor, "3 h w"]) -> Float[Tensor, "3 _ _"]:
    """At most SIDE pixels of each side, not resized: resizing would take the perturbation away."""
    top, left = (max(0, (side - SIDE) // 2) for side in x.shape[1:])
    return x[:, top : top + SIDE, left : left + SIDE]
