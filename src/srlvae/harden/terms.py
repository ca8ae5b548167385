"""What hardening minimises: named terms, each of them a measure on clean or on attacked images with a weight.

The notation is that of Lee et al. 2025 (arXiv 2504.17219): E is the encoder in training, E₀ the original and D the frozen
decoder. x′ is a clean or an attacked image. To add a measure, write a function from `Encoded` to one number for each image, and
add a line to MEASURES.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from srlvae.devices import onto
from srlvae.images import Images
from srlvae.metrics.features import Features
from srlvae.metrics.pairwise import PerImage, detail, detail_distance, feature_distance, squared_shift
from srlvae.models.vae import VAE, Latents

# Stages of a feature network that its distance compares, fine to coarse: gradients of deep ones hardly agree between batches.
STAGES = 3


@dataclass(frozen=True)
class Term:
    """`weight` times the mean of a measure over the clean or the attacked images. `measure` is a name in MEASURES."""

    measure: Literal["shift", "latent", "image", "error", "features", "detail"]
    on: Literal["clean", "attacked"]
    weight: float


class CleanBatch:
    """What is known of clean images before the encoder in training sees them, each item computed when first asked for."""

    def __init__(self, x: Images, original: VAE, features: Features | None):
        self.x, self.original, self.network = x, original, features

    @cached_property
    def latents(self) -> Latents:
        """The original's mean latents E₀(x)."""
        with torch.no_grad():
            return self.original.mean(self.x)

    @cached_property
    def mirrored(self) -> Latents:
        """The original's latents of the images upside down. They are those of another picture, yet depend on no neighbour."""
        with torch.no_grad():
            return self.original.mean(self.x.flip(2))

    @cached_property
    def error(self) -> PerImage:
        """MSE(D(E₀(x)), x), but at least the error of rounding to grey levels twice: flat pictures must not weigh more."""
        with torch.no_grad():
            return (self.original.decode(self.latents) - self.x).square().mean((1, 2, 3)).clamp_min(1e-5)

    @cached_property
    def columns(self) -> list[Tensor]:
        """The feature columns of the images."""
        assert self.network is not None
        with torch.no_grad():
            return self.network.columns(self.x, STAGES)

    @cached_property
    def detail(self) -> Float[Tensor, "b rows columns"]:
        """The local sharpness of the images."""
        return detail(self.x)

    def part(self, rows: slice | Tensor) -> CleanBatch:
        """The images `rows`, with what is known of them."""
        part = CleanBatch(self.x[rows], self.original, self.network)
        for name in ("latents", "mirrored", "error", "detail"):
            if name in self.__dict__:
                part.__dict__[name] = self.__dict__[name][rows]
        if "columns" in self.__dict__:
            part.__dict__["columns"] = [column[rows] for column in self.columns]
        return part


@dataclass
class Encoded:
    """A batch as the encoder in training sees it.

    `latents` are E of the clean or of the attacked images, and `images` what D makes of them, if anything looks at them.
    """

    clean: CleanBatch
    latents: Latents
    images: Images | None = None


def shift(encoded: Encoded) -> PerImage:
    """‖E(x′) − E₀(x)‖² / ‖E₀(x)‖²: how far latents lie from the original's, whatever their scale."""
    return squared_shift(encoded.latents, encoded.clean.latents)


def latent(encoded: Encoded) -> PerImage:
    """‖E(x′) − E₀(x)‖², a mean over the latent's elements."""
    return (encoded.latents - encoded.clean.latents).square().mean((1, 2, 3))


def image(encoded: Encoded) -> PerImage:
    """MSE(D(E(x′)), x)."""
    return (_decoded(encoded) - encoded.clean.x).square().mean((1, 2, 3))


def error(encoded: Encoded) -> PerImage:
    """MSE(D(E(x′)), x) / MSE(D(E₀(x)), x): how much a shift costs the decoder, whatever the quality of the autoencoder."""
    return image(encoded) / encoded.clean.error


def features(encoded: Encoded) -> PerImage:
    """P(D(E(x′)), x), with P the feature distance of the first STAGES stages. For LPIPS this is not all of its stages."""
    assert encoded.clean.network is not None
    return feature_distance(encoded.clean.network.columns(_decoded(encoded), STAGES), encoded.clean.columns)


def sharpness(encoded: Encoded) -> PerImage:
    """The squared difference of log local sharpness. Squared error alone prefers blur."""
    return detail_distance(detail(_decoded(encoded).float()), encoded.clean.detail)


def _decoded(encoded: Encoded) -> Images:
    assert encoded.images is not None
    return encoded.images


MEASURES: dict[str, Callable[[Encoded], PerImage]] = {
    "shift": shift,
    "latent": latent,
    "image": image,
    "error": error,
    "features": features,
    "detail": sharpness,
}
# Those that need a pass through the decoder, and what they compare with.
DECODED = {"image": "x", "error": "error", "features": "columns", "detail": "detail"}


def outer_loss(
    encode: Callable[[Images], Latents],
    vae: VAE,
    clean: CleanBatch,
    attacked: Images | None,
    terms: Sequence[Term],
    looked: Sequence[int] | None = None,
    decode_every: int = 1,
) -> tuple[PerImage, dict[str, Tensor]]:
    """The loss to minimise over the encoder, one number for each image, and the parts of its mean for the log.

    `encode` maps images to mean latents, through whatever wraps the encoder for several processes. With `attacked=None`, terms
    on attacked images are left out. `looked` are the rows whose pictures are decoded, one in `decode_every` of all images;
    terms on pictures count that many times as much there.

    Clean and attacked images go through the encoder in one call, and through the decoder in one call. What no term looks at is
    not computed.
    """
    known = {"clean": clean.x} if attacked is None else {"clean": clean.x, "attacked": attacked}
    used = [term for term in terms if term.weight and term.on in known]
    sides = {side: x for side, x in known.items() if any(term.on == side for term in used)}
    latents = dict(zip(sides, encode(torch.cat([*sides.values()])).chunk(len(sides)), strict=True))
    encoded = {side: Encoded(clean, latents[side]) for side in sides}
    rows = torch.arange(len(clean.x)) if looked is None else torch.tensor(looked, dtype=torch.long)
    rows = onto(rows, clean.x.device)
    pictures = _decode(vae, clean, latents, [term for term in used if term.measure in DECODED], rows)
    parts: dict[str, PerImage] = {}
    for term in used:
        if term.measure not in DECODED:
            value = MEASURES[term.measure](encoded[term.on])
        else:
            # Nought, with a graph: images that no term looks at have a gradient of zeros, not none.
            value = 0 * latents[term.on].float().mean((1, 2, 3))
            if term.on in pictures:
                found = decode_every * MEASURES[term.measure](pictures[term.on])
                value = value.index_copy(0, rows, found.float())
        parts[f"{term.measure} {term.on}"] = term.weight * value
    return torch.stack([*parts.values()]).sum(0), {name: part.detach().mean() for name, part in parts.items()}


def _decode(
    vae: VAE, clean: CleanBatch, latents: dict[str, Latents], terms: Sequence[Term], rows: Tensor
) -> dict[str, Encoded]:
    """The decoded batch of `rows` that the `terms` look at, on the clean and on the attacked side."""
    sides = [side for side in latents if any(term.on == side for term in terms)]
    if not sides or not len(rows):
        return {}
    for term in terms:
        getattr(clean, DECODED[term.measure])  # known of the whole batch, so that it is computed once
    part = clean if len(rows) == len(clean.x) else clean.part(rows)
    own = {side: latents[side][rows] for side in sides}
    images = vae.decode(torch.cat([*own.values()])).chunk(len(sides))
    return {side: Encoded(part, own[side], y) for side, y in zip(sides, images, strict=True)}


# The weight of the term that keeps clean latents close: where it starts, how fast its logarithm follows, how far it may go.
WEIGHT, PACE, BOUNDS = 10.0, 0.05, (0.1, 1000.0)


def next_log_weight(log_weight: float, moved: float, bound: float) -> float:
    """Dual ascent on the logarithm of the weight that keeps clean latents close.

    It rises if the mean squared shift `moved` is above `bound` squared, and falls otherwise.
    """
    error = max(-1.0, min(1.0, moved / bound**2 - 1))
    low, high = (math.log(end) for end in BOUNDS)
    return max(low, min(high, log_weight + PACE * error))
