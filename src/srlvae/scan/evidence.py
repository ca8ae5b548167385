"""The mathematics of evidence: how two encoders see an image, and how they see what one of them makes of it."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import avg_pool2d, pixel_shuffle, pixel_unshuffle

from srlvae.errors import InputError
from srlvae.events import Listener
from srlvae.images import Images, pad_to_multiple
from srlvae.models.vae import VAE, Latents

# Two signs of a perturbation, and what they go with on clean images.
EVIDENCE = ("parting", "change", "disagreement", "scrambled parting", "scrambled change")
SIGNS = 2
# Larger images are seen in tiles of this side, so that memory does not grow with them.
TILE = 512
# Side, in latents, of the patches in which the encoders are compared.
PATCH = 4
# Nothing is zero, for logarithms and quotients.
TINY = 1e-6


# Patches of images → one number an image.
Middle = Callable[[Float[Tensor, "b n"]], Float[Tensor, " b"]]


def median(patches: Float[Tensor, "b n"]) -> Float[Tensor, " b"]:
    """The median over patches."""
    return patches.median(1).values


@torch.no_grad()
def evidence(original: VAE, hardened: VAE, x: Images) -> Float[Tensor, "b e"]:
    """The columns of EVIDENCE, without a gradient; see `columns`."""
    return columns(original, hardened, x)


def columns(original: VAE, hardened: VAE, x: Images, middle: Middle = median) -> Float[Tensor, "b e"]:
    """The columns of EVIDENCE for images `b 3 h w` in [0,1], with a gradient. middle: what stands for all patches of an image.

    Let y = D(E(x)), u = E₀(x) − E₀(y) and v = E(x) − E(y), with E₀ the original encoder and E, D the hardened VAE.

    - `parting` is minus the cosine between u and v in a patch, the median over patches.
    - `change` is the log of the root mean square of u − v over channels, the mean over places.
    - `disagreement` is the log of the root mean square of E₀(y) − E(y). On clean images the other two grow with it.
    - `scrambled parting` and `scrambled change` are those of y + s(x − y), where s changes the places of pixels within each
      square that a latent stands for. Noise, grain and dots do nearly as much when scrambled; a perturbation does not.

    Raises InputError for an encoder whose latents are not finite.
    """
    x = pad_to_multiple(x, original.factor)
    before_x, after_x = original.mean(x), hardened.mean(x)
    for which, latents in (("original", before_x), ("hardened", after_x)):
        if not latents.isfinite().all():
            raise InputError(
                f"the {which} VAE's latents are not finite numbers; weights that overflow in float16, as those of SDXL's VAE "
                "do, have to be loaded in float32"
            )
    y = hardened.decode(after_x).clamp(0, 1)
    before_y, after_y = original.mean(y), hardened.mean(y)
    # In the layout of x, in which both networks are faster.
    z = torch.empty_like(x).copy_(y + scrambled(x - y, original.factor)).clamp_(0, 1)
    parting, change = signs(before_x - before_y, after_x - after_y, middle)
    others = signs(original.mean(z) - before_y, hardened.mean(z) - after_y, middle)
    disagreement = (before_y - after_y).square().mean((1, 2, 3)).sqrt().clamp(min=TINY).log()
    return torch.stack([parting, change, disagreement, *others], 1)


def signs(u: Latents, v: Latents, middle: Middle = median) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"]]:
    """Parting and change, of what the original encoder sees and what the hardened one sees; see `columns`."""
    cosine = _in_patches(u * v) / (_in_patches(u * u) * _in_patches(v * v)).sqrt().clamp(min=TINY)
    change = (u - v).square().mean(1).sqrt().clamp(min=TINY).log().mean((1, 2))
    return -middle(cosine), change


def scrambled(r: Float[Tensor, "b c h w"], side: int) -> Float[Tensor, "b c h w"]:
    """Change the places of pixels within squares of `side`, whose multiples height and width are: in every one alike."""
    squares = pixel_unshuffle(r, side).unflatten(1, (r.shape[1], side * side))
    places = torch.randperm(side * side, generator=torch.Generator().manual_seed(0)).to(r.device)
    return pixel_shuffle(squares[:, :, places].flatten(1, 2), side)


def _in_patches(z: Latents) -> Float[Tensor, "b n"]:
    """Means over channels and over the places of a patch."""
    return avg_pool2d(z.mean(1, keepdim=True), min(PATCH, *z.shape[2:])).flatten(1)


def evidence_of_image(original: VAE, hardened: VAE, x: Float[Tensor, "3 h w"], listener: Listener) -> Float[Tensor, " e"]:
    """The evidence in one image of any size: the mean over its tiles, weighted by their area.

    Tiles have about the same size: a narrow one at the edge would say little. `listener` is asked before each whether to stop.
    """
    bands = x.tensor_split(math.ceil(x.shape[1] / TILE), dim=1)
    tiles = [tile for band in bands for tile in band.tensor_split(math.ceil(x.shape[2] / TILE), dim=2)]
    areas = torch.tensor([float(tile.shape[1] * tile.shape[2]) for tile in tiles])
    found = []
    for tile in tiles:
        listener.check()
        found.append(evidence(original, hardened, tile[None].to(original.device)).cpu())
    return (torch.cat(found) * areas[:, None]).sum(0) / areas.sum()
