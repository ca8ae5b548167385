"""How far one set of images is from another: pair by pair, and as distributions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from srlvae.bench.estimates import mean_estimate, set_estimates, set_values
from srlvae.bench.protocol import EditingProtocol, ReconstructionProtocol
from srlvae.bench.rows import Estimate
from srlvae.errors import InputError
from srlvae.metrics.clip import Clip
from srlvae.metrics.features import Features, load_features
from srlvae.metrics.pairwise import feature_distance, psnr, ssim
from srlvae.metrics.projection import load_projection
from srlvae.models.vae import VAE


class Networks:
    """The networks that measure distances between images.

    - pairs: compares one image with another (the feature distance).
    - sets: turns images into vectors, of which sets are compared (Fréchet distance and KID).
    - batch_size: how many images a network sees at a time.
    - device: where the networks compute. Results are on the CPU.

    Raises InputError if a network cannot do what it is chosen for.
    """

    def __init__(self, pairs: Features, sets: Features, batch_size: int, device: torch.device | str = "cpu"):
        if not pairs.gives_columns:
            raise InputError(f"pairs: {pairs.name} gives no feature maps; choose efficientnet-lite1 or lpips-alex")
        if not sets.gives_pooled:
            raise InputError(f"sets: {sets.name} gives no pooled vectors; choose efficientnet-lite1 or inception")
        self.pairs, self.sets = pairs.to(device), sets.to(device)
        self.batch_size, self.device = batch_size, device
        self.projection = load_projection(sets.name)

    @torch.no_grad()
    def in_batches(self, function: Callable[..., Tensor], *sets: Tensor) -> Tensor:
        """Apply `function` to batches of the given tensors, which are of equal length, and join the results on the CPU."""
        parts = zip(*(x.split(self.batch_size) for x in sets), strict=True)
        return torch.cat([function(*(x.to(self.device) for x in part)).cpu() for part in parts])

    def pooled(self, x: Tensor) -> Tensor:
        """One vector for each image, `n d`."""
        return self.in_batches(self.sets.pooled, x)

    def pairwise(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        """The PSNR in dB, the SSIM and the feature distance of each pair of images. Each is a tensor of `n` numbers."""
        columns = self.pairs.columns
        return {
            "psnr": self.in_batches(psnr, x, y),
            "ssim": self.in_batches(ssim, x, y),
            "distance": self.in_batches(lambda a, b: feature_distance(columns(a), columns(b)), x, y),
        }


def load_networks(pairs: str, sets: str, batch_size: int, device: torch.device | str = "cpu") -> Networks:
    """Load the networks called `pairs` and `sets`. If they are the same, it is loaded once."""
    first = load_features(pairs)
    return Networks(first, first if sets == pairs else load_features(sets), batch_size, device)


def judges_of(protocol: ReconstructionProtocol | EditingProtocol) -> dict[str, Any]:
    """What a protocol measures distances by, for keys: the networks, the directions, and the seed of intervals."""
    projection = load_projection(protocol.sets)
    found = {"pairs": protocol.pairs, "sets": protocol.sets, "seed": protocol.seed}
    return found | ({"directions": projection.fingerprint()} if projection else {})


class EditDistances:
    """How far edits are from a reference: the edits `n 3 h w` of the clean photographs.

    - prompts: the prompt of each edit.
    - photograph_of: the number of the photograph that each edit was made from. Edits of one photograph are not independent, so
      intervals resample photographs.
    - seed: the seed of the resampling.
    """

    def __init__(
        self, networks: Networks, clip: Clip, reference: Tensor, prompts: list[str], photograph_of: list[int], seed: int
    ):
        self.networks, self.clip, self.reference, self.seed = networks, clip, reference, seed
        self.photograph_of = torch.tensor(photograph_of)
        self.pooled = networks.pooled(reference)
        self.vectors = networks.in_batches(clip.images, reference)
        self.texts = clip.texts(prompts).cpu()

    def to(self, edits: Tensor) -> dict[str, Any]:
        """The measures of a set of edits, as plain data. The edits are in the same order as the reference.

        `measures` has the estimates by name, and `distances` the feature distance of each pair.
        """
        vectors = self.networks.in_batches(self.clip.images, edits)
        values = self.networks.pairwise(edits, self.reference)
        values |= {"clip_i": (vectors * self.vectors).sum(-1), "clip_t": (vectors * self.texts).sum(-1)}
        measures = {name: mean_estimate(found, self.seed, self.photograph_of) for name, found in values.items()}
        measures |= set_estimates(
            self.networks.pooled(edits), self.pooled, self.photograph_of, self.seed, self.networks.projection
        )
        return {
            "measures": {name: asdict(found) for name, found in measures.items()},
            "distances": values["distance"].tolist(),
        }

    def between_halves(self) -> dict[str, Estimate]:
        """How far the clean edits of one half of the photographs are from those of the other half.

        This is a scale for the distances between sets. There are no measures if a half has fewer than two photographs.
        """
        first = self.photograph_of < self.photograph_of.unique().median() + 0.5
        if min(len(self.photograph_of[part].unique()) for part in (first, ~first)) < 2:
            return {}
        groups = self.photograph_of[first], self.photograph_of[~first]
        return set_values(self.pooled[first], self.pooled[~first], groups, self.networks.projection)


def reconstruction_estimates(networks: Networks, vae: VAE, x: Tensor, seed: int) -> dict[str, Estimate]:
    """How close a VAE's reconstructions of the images are to the images: PSNR in dB, SSIM and feature distance."""
    y = networks.in_batches(lambda part: vae.reconstruct(part.to(vae.device)), x)
    return {name: mean_estimate(values, seed) for name, values in networks.pairwise(y, x).items()}
