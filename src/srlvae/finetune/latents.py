"""Photographs as the latents that a UNet is trained on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from srlvae.errors import UnreadableError
from srlvae.images import LeftOut, fit, read_picture
from srlvae.models.pipeline import Pipeline
from srlvae.rng import generators

ENCODED_AT_ONCE = 8


@torch.no_grad()
def encode_files(pipeline: Pipeline, paths: Sequence[Path], seed: int, left_out: LeftOut) -> tuple[Tensor, list[int]]:
    """Scaled latents `n c h w` of the centre squares of images, each a draw from the posterior of the pipeline's VAE.

    Returns them and the numbers of the images in `paths`, which also number the draws; images that cannot be read are added to
    `left_out`. Its listener hears of the images encoded.
    """
    parts, numbers = [], []
    for start in range(0, len(paths), ENCODED_AT_ONCE):
        squares: dict[int, Tensor] = {}
        for number, path in enumerate(paths[start : start + ENCODED_AT_ONCE], start):
            try:
                picture = read_picture(path, left_out=left_out)
                squares[number] = fit(picture.on_white(), pipeline.size, pipeline.size)
            except UnreadableError as error:
                left_out.add(path, error.reason)
        if squares:
            x = torch.stack(list(squares.values())).to(pipeline.device)
            draws = generators(seed, squares)
            parts.append(pipeline.vae.to_scaled(pipeline.vae.sample(x, draws)))
        numbers += squares
        left_out.listener.at("images encoded", min(start + ENCODED_AT_ONCE, len(paths)), len(paths))
    return (torch.cat(parts) if parts else torch.empty(0)), numbers


@torch.no_grad()
def encode_images(pipeline: Pipeline, x: Tensor, seed: int, first: int = 0) -> Tensor:
    """Scaled latents of images `n 3 h w` in [0,1], image i drawn by generator (seed, first + i)."""
    parts = []
    for start in range(0, len(x), ENCODED_AT_ONCE):
        part = x[start : start + ENCODED_AT_ONCE].to(pipeline.device)
        draws = generators(seed, range(first + start, first + start + len(part)))
        parts.append(pipeline.vae.to_scaled(pipeline.vae.sample(part, draws)))
    return torch.cat(parts)
