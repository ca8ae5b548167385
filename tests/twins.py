"""Models that can be told apart, for all benchmarks: VAEs with one decoder and encoders of other weights, judges that notice.

With equal twins, or with judges that say the same of everything, whatever a benchmark swaps or leaves out goes unnoticed.
"""

from __future__ import annotations

import zlib

import torch
from torch.nn import functional as F

from conftest import small_kl
from small import RandomFeatures
from srlvae.metrics.clip import Clip
from srlvae.metrics.judge import Judge
from srlvae.models.vae import VAE


def hardened_twin(vae: VAE | None = None, seed: int = 1) -> VAE:
    """The twin of `small_kl()`, or a copy of `vae`: every weight of its encoder is another one, and its decoder is the same."""
    twin = vae or small_kl()
    draws = torch.Generator().manual_seed(seed)
    for module in twin.encoder_modules().values():
        for weight in module.parameters():
            weight.data += 0.3 * weight.std().nan_to_num(1.0) * torch.randn(weight.shape, generator=draws)
    return twin


def other_decoder() -> VAE:
    """`small_kl()` with a decoder of its own, which no hardening of it has."""
    vae = small_kl()
    next(vae.model.decoder.parameters()).data += 0.1
    return vae


class PooledFeatures(RandomFeatures):
    """The random network with pooled vectors of 14 numbers."""

    def pooled(self, x):
        return torch.cat([column.mean((2, 3)) for column in self.columns(x)], dim=1)


class NervousFeatures(PooledFeatures):
    """Pooled vectors that are others for any other image, so that a probe says other things of it."""

    def pooled(self, x):
        return (300 * super().pooled(x)).sin()


class SmallClip(Clip):
    """Colour averages as vectors of images, and a direction of its own for every prompt."""

    def __init__(self):
        self.name = "small"

    def fingerprint(self):
        return "small"

    def images(self, x):
        return F.normalize(F.adaptive_avg_pool2d(x, 2).flatten(1), dim=-1)

    def texts(self, texts):
        draws = [torch.Generator().manual_seed(zlib.crc32(text.encode())) for text in texts]
        return F.normalize(torch.stack([torch.rand(12, generator=draw) for draw in draws]), dim=-1)


class NervousJudge(Judge):
    """Names a concept by digits far behind the point of an image's mean, so that any other image may be named otherwise."""

    def __init__(self):
        self.concepts = ["cat", "dog", "car", "bird"]

    def fingerprint(self):
        return "nervous"

    def predict(self, x):
        return (x.double().mean((1, 2, 3)) * 1e4).long() % len(self.concepts)
