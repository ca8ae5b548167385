"""One set of edits against another, pair by pair and as distributions, with intervals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from srlvae.errors import InputError
from srlvae.metrics.bootstrap import bootstrap_interval, interval_about, resamples
from srlvae.metrics.clip import Clip
from srlvae.metrics.features import Features
from srlvae.metrics.frechet import frechet_distance
from srlvae.metrics.kernel import KernelDistance, kernel_distance
from srlvae.metrics.pairwise import feature_distance, psnr, ssim
from srlvae.models.vae import VAE

# Resamples of a distance of distributions; a Fréchet distance takes the singular values of an n × n matrix.
DRAWS = 200


class Comparison:
    """reference: `n 3 h w`, the edits of clean images. prompts: of each of them. of: the photograph that each was made of, as
    edits of one photograph are no independent draws: intervals are over photographs. device: where the networks compute.

    Raises InputError where no network gives pooled vectors, or none feature maps.
    """

    def __init__(
        self,
        networks: list[Features],
        clip: Clip,
        reference: Tensor,
        prompts: list[str],
        of: list[int],
        batch_size: int,
        seed: int,
        device: torch.device | str = "cpu",
    ):
        self.distances = [net.to(device) for net in networks if net.gives_columns]
        self.distributions = [net.to(device) for net in networks if net.gives_pooled]
        if not self.distances or not self.distributions:
            names = ", ".join(net.name for net in networks)
            raise InputError(f"features: {names} cannot judge both pairs and sets; add efficientnet-lite1")
        self.clip, self.reference, self.batch_size, self.seed, self.device = clip, reference, batch_size, seed, device
        self.of = torch.tensor(of)
        self.pooled = {net.name: self._chunked(net.pooled, reference) for net in self.distributions}
        self.vectors = self._chunked(clip.images, reference)
        self.texts = clip.texts(prompts).cpu()

    @torch.no_grad()
    def _chunked(self, function: Callable[..., Tensor], *sets: Tensor) -> Tensor:
        parts = zip(*(x.split(self.batch_size) for x in sets), strict=True)
        return torch.cat([function(*(x.to(self.device) for x in part)).cpu() for part in parts])

    def _distance(self, net: Features, x: Tensor, y: Tensor) -> Tensor:
        return self._chunked(lambda a, b: feature_distance(net.columns(a), net.columns(b)), x, y)

    def _draw(self) -> torch.Generator:
        return torch.Generator().manual_seed(self.seed)

    def row(self, edits: Tensor) -> dict:
        """All measures of a set of edits, each with its 95 % bootstrap interval over the photographs.

        Equal pairs have no finite PSNR and are left out of its mean; where all are equal it is None. distances: of each pair,
        by the last network that gives them.
        """
        vectors = self._chunked(self.clip.images, edits)
        measured = {
            "psnr": self._chunked(psnr, edits, self.reference),
            "ssim": self._chunked(ssim, edits, self.reference),
            f"clip_i_{self.clip.name}": (vectors * self.vectors).sum(-1),
            f"clip_t_{self.clip.name}": (vectors * self.texts).sum(-1),
        }
        row: dict = {}
        for net in self.distances:
            measured[f"{net.name}_distance"] = distance = self._distance(net, edits, self.reference)
            row["distances"] = [round(value, 4) for value in distance.tolist()]
        for net in self.distributions:
            row |= self._distribution(net.name, self._chunked(net.pooled, edits))
        return row | self._means(measured, self.of)

    def _means(self, measured: dict[str, Tensor], of: Tensor) -> dict:
        found: dict = {}
        for name, values in measured.items():
            finite = values.isfinite()
            values, groups = values[finite], of[finite]
            found[name] = values.mean().item() if len(values) else None
            interval = bootstrap_interval(values, self._draw(), groups=groups) if len(values) else None
            found[f"{name}_interval"] = list(interval) if interval else None
        return found

    def _distribution(self, name: str, pooled: Tensor) -> dict:
        reference, found = self.pooled[name], dict[str, Any]()
        found[f"{name}_frechet"] = frechet_distance(pooled, reference)
        found[f"{name}_frechet_interval"] = list(frechet_interval(pooled, reference, self.of, self._draw(), DRAWS))
        kid = KernelDistance(pooled, reference, (self.of, self.of))
        found |= {f"{name}_kid": kid.value(), f"{name}_kid_interval": list(kid.interval(self._draw(), DRAWS))}
        return found

    def floor(self, others: Tensor) -> dict:
        """What two sets of the clean edits' kind are apart: those of one half of the photographs from those of the other, and
        all from edits with other noise."""
        first = self.of < self.of.unique().median() + 0.5
        found: dict = {"n": len(self.reference), "halves_n": int(first.sum()), "other noise": self.row(others), "halves": {}}
        found[f"clip_t_{self.clip.name}"] = (self.vectors * self.texts).sum(-1).mean().item()
        if min(len(self.of[part].unique()) for part in (first, ~first)) > 1:
            for name, pooled in self.pooled.items():
                halves, groups = (pooled[first], pooled[~first]), (self.of[first], self.of[~first])
                found["halves"] |= {
                    f"{name}_frechet": frechet_distance(*halves),
                    f"{name}_kid": kernel_distance(*halves, groups),
                }
        return found

    def reconstruction(self, vae: VAE, x: Tensor) -> dict:
        """How well a VAE gives clean images back."""
        y = self._chunked(lambda part: vae.reconstruct(part.to(vae.device)), x)
        measured = {"psnr": self._chunked(psnr, y, x), "ssim": self._chunked(ssim, y, x)}
        measured |= {f"{net.name}_distance": self._distance(net, y, x) for net in self.distances}
        return {"n": len(x), **self._means(measured, torch.arange(len(x)))}


def frechet_interval(x: Tensor, y: Tensor, groups: Tensor, draw: torch.Generator, draws: int) -> tuple[float, float]:
    """The 95 % interval over resampled groups of pairs. Resampling repeats images, which biases each draw upwards: see
    `interval_about`."""
    resampled = [frechet_distance(x[pick], y[pick]) for pick in resamples(groups, draws, draw)]
    return interval_about(frechet_distance(x, y), resampled)
