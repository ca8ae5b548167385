"""Purifiers by a latent diffusion pipeline: images are noised a little and denoised, whole or in tiles.

Published DiffPure and GrIDPure use a diffusion model on pixels (see `pixel_diffusion`). The purifiers here stand in for them
where there is no such model. They are SDEdit (Meng et al. 2022, arXiv 2108.01073) at a low strength with an empty prompt, and
are named so. Their weakness is that their encoder is the one under attack.
"""

from __future__ import annotations

import itertools

import torch

from srlvae.errors import InputError
from srlvae.images import Images
from srlvae.models.noise import noise_error, signal_share
from srlvae.models.pipeline import Pipeline
from srlvae.purify.table import Purifier
from srlvae.rng import Generators, normal_like


def sdedit(x: Images, *, generators: Generators, pipeline: Pipeline, strength: float, steps: int) -> Images:
    """Edit `x` with the empty prompt at `strength`, without guidance."""
    return pipeline.edit(x, [""] * len(x), generators, strength=strength, steps=steps, guidance=1.0)


def tiled_sdedit(
    x: Images, *, generators: Generators, pipeline: Pipeline, strength: float, steps: int, rounds: int, gamma: float
) -> Images:
    """Purify tile by tile as GrIDPure does (Zhao et al. 2024, arXiv 2312.00084), with `sdedit` in place of its pixel model.

    Each of `rounds` rounds sets x ← (1 − γ) · mean over overlapping purified tiles + γ · x. A tile's side is half of the
    image's smaller side, or the pipeline's own size if that is less, and tiles overlap by half. Few tiles cover the corners, so
    these are purified once more, as a tile of four quarters.
    """
    side = min(pipeline.size, min(x.shape[-2:]) // 2) // (2 * pipeline.vae.factor) * 2 * pipeline.vae.factor
    side = max(side, 2 * pipeline.vae.factor)
    for _ in range(rounds):
        total, count = torch.zeros_like(x), torch.zeros_like(x[:1, :1])
        for top, left in itertools.product(_starts(x.shape[-2], side), _starts(x.shape[-1], side)):
            tile = (..., slice(top, top + side), slice(left, left + side))
            total[tile] += sdedit(x[tile], generators=generators, pipeline=pipeline, strength=strength, steps=steps)
            count[tile] += 1
        half = side // 2
        corners = [(..., rows, columns) for rows in _ends(half) for columns in _ends(half)]
        quarters = [x[corner] for corner in corners]
        joined = torch.cat([torch.cat(quarters[:2], -1), torch.cat(quarters[2:], -1)], -2)
        joined = sdedit(joined, generators=generators, pipeline=pipeline, strength=strength, steps=steps)
        for corner in corners:
            total[corner] += joined[corner]
            count[corner] += 1
        x = (1 - gamma) * total / count + gamma * x
    return x


@torch.no_grad()
def one_step(x: Images, *, generators: Generators, pipeline: Pipeline, t: int) -> Images:
    """Encode, noise the latents to step `t` of the schedule, take the UNet's estimate of the clean latent, and decode.

    OSCP (Lei et al. 2024, arXiv 2408.17064) does so with a latent consistency model, whose single step this is where the
    pipeline's UNet is one; with any other UNet it is the estimate of an ordinary diffusion model. OSCP's further training on
    attacked images and its control by edges are left out. It costs one pass through each network.
    Raises InputError for a time at which the noise leaves nothing of a latent.
    """
    vae, kept = pipeline.vae, signal_share(pipeline, t)
    if not kept:
        raise InputError(f"t is {t}, at which the model's noise leaves nothing of the image; take a smaller one")
    scaled = vae.to_scaled(vae.sample(x, generators))
    empty, times = pipeline.unconditional(len(x), (x.shape[-2], x.shape[-1])), torch.full((len(x),), t, device=x.device)
    error = noise_error(pipeline, scaled, empty, times, normal_like(scaled, generators))
    return vae.decode(vae.from_scaled(scaled - ((1 - kept) / kept) ** 0.5 * error)).clamp(0, 1)


def _starts(length: int, side: int) -> list[int]:
    """Where tiles start: every half tile, and the last at the edge."""
    return sorted({*range(0, length - side + 1, side // 2), length - side})


def _ends(half: int) -> tuple[slice, slice]:
    return slice(None, half), slice(-half, None)


ONE_STEP = Purifier(
    one_step, "one denoising step, as OSCP's, arXiv 2408.17064, without its training and edges", "pipeline", {"t": 200}
)
SDEDIT = Purifier(sdedit, "SDEdit, arXiv 2108.01073, in DiffPure's place", "pipeline", {"strength": 0.15, "steps": 100})
TILED_SDEDIT = Purifier(
    tiled_sdedit,
    "GrIDPure's tiling, arXiv 2312.00084, of SDEdit",
    "pipeline",
    {"strength": 0.1, "steps": 100, "rounds": 20, "gamma": 0.1},
    {"rounds": 1},
)
