"""One set of edits against another, pair by pair and as distributions, with intervals."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from srlvae.metrics.bootstrap import bootstrap_interval
from srlvae.metrics.clip import Clip
from srlvae.metrics.features import Features
from srlvae.metrics.frechet import frechet_distance
from srlvae.metrics.kernel import kernel_distance_with_error
from srlvae.metrics.pairwise import feature_distance, psnr, ssim
from srlvae.vae import VAE

# Resamples of a Fréchet distance; each takes the singular values of an n × n matrix.
DRAWS = 200


class Comparison:
    """reference: `n 3 h w`, the edits of clean images. prompts: of each of them."""

    def __init__(self, networks: list[Features], clip: Clip, reference: Tensor, prompts: list[str], batch_size: int, seed: int):
        self.networks, self.clip, self.reference, self.batch_size, self.seed = networks, clip, reference, batch_size, seed
        self.pooled = {net.name: self._chunked(net.pooled, reference) for net in networks}
        self.vectors = self._chunked(clip.images, reference)
        self.texts = clip.texts(prompts)

    @torch.no_grad()
    def _chunked(self, function: Callable[..., Tensor], *sets: Tensor) -> Tensor:
        parts = zip(*(x.split(self.batch_size) for x in sets), strict=True)
        return torch.cat([function(*part).cpu() for part in parts])

    def _distance(self, net: Features, x: Tensor, y: Tensor) -> Tensor:
        return self._chunked(lambda a, b: feature_distance(net.columns(a), net.columns(b)), x, y)

    def _draw(self) -> torch.Generator:
        return torch.Generator().manual_seed(self.seed)

    def row(self, edits: Tensor) -> dict:
        """All measures of a set of edits, those of pairs as means with 95 % bootstrap intervals over the images.

        Equal pairs have no finite PSNR and are left out of its mean; where all are equal it is None. distances: of each pair,
        by the last network.
        """
        y, n = edits, len(edits)
        vectors = self._chunked(self.clip.images, y)
        decibels = psnr(y, self.reference[:n])
        measured = {
            "psnr": decibels[decibels.isfinite()],
            "ssim": ssim(y, self.reference[:n]),
            f"clip_i_{self.clip.name}": (vectors * self.vectors[:n]).sum(-1),
            f"clip_t_{self.clip.name}": (vectors * self.texts[:n]).sum(-1),
        }
        row: dict = {}
        for net in self.networks:
            distance = self._distance(net, y, self.reference[:n])
            measured[f"{net.name}_distance"] = distance
            row["distances"] = [round(value, 4) for value in distance.tolist()]
            row |= self._distribution(net.name, self._chunked(net.pooled, y), self.pooled[net.name][:n])
        for name, values in measured.items():
            row[name] = values.mean().item() if len(values) else None
            row[f"{name}_interval"] = list(bootstrap_interval(values, self._draw())) if len(values) else None
        return row

    def _distribution(self, name: str, pooled: Tensor, reference: Tensor) -> dict:
        kid, error = kernel_distance_with_error(pooled, reference, self._draw(), subsets=50, size=max(2, len(pooled) // 2))
        return {
            f"{name}_frechet": frechet_distance(pooled, reference),
            f"{name}_frechet_interval": list(frechet_interval(pooled, reference, self._draw(), DRAWS)),
            f"{name}_kid": kid,
            f"{name}_kid_error": error,
        }

    def floor(self, others: Tensor) -> dict:
        """What two sets of the clean edits' kind are apart: one half from the other, and all from edits with other noise."""
        half = len(self.reference) // 2
        found: dict = {"n": len(self.reference), "halves_n": half, "other noise": self.row(others), "halves": {}}
        found[f"clip_t_{self.clip.name}"] = (self.vectors * self.texts).sum(-1).mean().item()
        for name, pooled in self.pooled.items():
            if half >= 2:
                found["halves"][f"{name}_frechet"] = frechet_distance(pooled[:half], pooled[half:])
        return found

    def reconstruction(self, vae: VAE, x: Tensor) -> dict:
        """How well a VAE gives clean images back."""
        y = self._chunked(lambda part: vae.reconstruct(part.to(vae.device)), x)
        measured = {"psnr": psnr(y, x), "ssim": ssim(y, x)}
        for net in self.networks:
            measured[f"{net.name}_distance"] = self._distance(net, y, x)
        found = {"n": len(x)}
        for name, values in measured.items():
            found |= {name: values.mean().item(), f"{name}_interval": list(bootstrap_interval(values, self._draw()))}
        return found


def frechet_interval(x: Tensor, y: Tensor, draw: torch.Generator, draws: int) -> tuple[float, float]:
    """The 95 % percentile interval over resampled pairs. Resampling repeats images, which biases each draw upwards: the draws
    are moved so that their mean is the distance of the whole sets."""
    picks = torch.randint(len(x), (draws, len(x)), generator=draw)
    values = torch.tensor([frechet_distance(x[pick], y[pick]) for pick in picks], dtype=torch.float64)
    low, high = torch.quantile(values, torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    moved = frechet_distance(x, y) - values.mean().item()
    return low + moved, high + moved
