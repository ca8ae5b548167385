"""One set of images against another: pair by pair, and as distributions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from srlvae.bench.estimates import mean_estimate, set_estimates, set_values
from srlvae.bench.rows import Estimate
from srlvae.errors import InputError
from srlvae.metrics.clip import Clip
from srlvae.metrics.features import Features, load_features
from srlvae.metrics.pairwise import feature_distance, psnr, ssim
from srlvae.models.vae import VAE


class Networks:
    """The networks that judge: `pairs` compares an image with another, `sets` makes vectors of which sets are compared.

    batch_size: images at a time. device: where they compute; results are on the CPU. Raises InputError where a network cannot
    do what it is asked to.
    """

    def __init__(self, pairs: Features, sets: Features, batch_size: int, device: torch.device | str = "cpu"):
        if not pairs.gives_columns:
            raise InputError(f"pairs: {pairs.name} gives no feature maps; choose efficientnet-lite1 or lpips-alex")
        if not sets.gives_pooled:
            raise InputError(f"sets: {sets.name} gives no pooled vectors; choose efficientnet-lite1 or inception")
        self.pairs, self.sets = pairs.to(device), sets.to(device)
        self.batch_size, self.device = batch_size, device

    @torch.no_grad()
    def in_batches(self, function: Callable[..., Tensor], *sets: Tensor) -> Tensor:
        """What `function` makes of the sets, a batch of each at a time."""
        parts = zip(*(x.split(self.batch_size) for x in sets), strict=True)
        return torch.cat([function(*(x.to(self.device) for x in part)).cpu() for part in parts])

    def pooled(self, x: Tensor) -> Tensor:
        """A vector an image, `n d`."""
        return self.in_batches(self.sets.pooled, x)

    def pairwise(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        """PSNR, SSIM and feature distance of each pair, `n` numbers each."""
        columns = self.pairs.columns
        return {
            "psnr": self.in_batches(psnr, x, y),
            "ssim": self.in_batches(ssim, x, y),
            "distance": self.in_batches(lambda a, b: feature_distance(columns(a), columns(b)), x, y),
        }


def load_networks(pairs: str, sets: str, batch_size: int, device: torch.device | str = "cpu") -> Networks:
    """The networks called `pairs` and `sets`, loaded once where they are the same."""
    first = load_features(pairs)
    return Networks(first, first if sets == pairs else load_features(sets), batch_size, device)


class EditDistances:
    """How far edits are from those of the clean photographs, `n 3 h w`.

    prompts: of each edit. of: the number of the photograph that each was made of; edits of one photograph are no independent
    draws, so intervals are over photographs.
    """

    def __init__(self, networks: Networks, clip: Clip, reference: Tensor, prompts: list[str], of: list[int], seed: int):
        self.networks, self.clip, self.reference, self.seed = networks, clip, reference, seed
        self.of = torch.tensor(of)
        self.pooled = networks.pooled(reference)
        self.vectors = networks.in_batches(clip.images, reference)
        self.texts = clip.texts(prompts).cpu()

    def to(self, edits: Tensor) -> dict[str, Any]:
        """The measures of a set of edits, and `distances`, the feature distance of each pair, as plain data."""
        vectors = self.networks.in_batches(self.clip.images, edits)
        values = self.networks.pairwise(edits, self.reference)
        values |= {"clip_i": (vectors * self.vectors).sum(-1), "clip_t": (vectors * self.texts).sum(-1)}
        measures = {name: mean_estimate(found, self.seed, self.of) for name, found in values.items()}
        measures |= set_estimates(self.networks.pooled(edits), self.pooled, self.of, self.seed)
        return {
            "measures": {name: asdict(found) for name, found in measures.items()},
            "distances": values["distance"].tolist(),
        }

    def between_halves(self) -> dict[str, Estimate]:
        """What the clean edits of one half of the photographs are from those of the other; nothing for too few of them."""
        first = self.of < self.of.unique().median() + 0.5
        if min(len(self.of[part].unique()) for part in (first, ~first)) < 2:
            return {}
        return set_values(self.pooled[first], self.pooled[~first], (self.of[first], self.of[~first]))


def reconstruction_estimates(networks: Networks, vae: VAE, x: Tensor, seed: int) -> dict[str, Estimate]:
    """How well a VAE gives clean images back."""
    y = networks.in_batches(lambda part: vae.reconstruct(part.to(vae.device)), x)
    return {name: mean_estimate(values, seed) for name, values in networks.pairwise(y, x).items()}
