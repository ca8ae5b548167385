"""What is minimised: named terms, each a measure on clean or on attacked images, with a weight.

Notation as in Lee et al. 2025 (arXiv 2504.17219): E the encoder in training, E₀ the original, D the frozen decoder. To add a
measure: a function of what `Seen` holds, one number an image, and a line in MEASURES.
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

from srlvae.images import Images
from srlvae.metrics.features import Features
from srlvae.metrics.pairwise import PerImage, detail, detail_distance, feature_distance, squared_shift
from srlvae.models.vae import VAE, Latents

# Stages of a feature network that its distance compares, fine to coarse: gradients of deep ones hardly agree between batches.
STAGES = 3


@dataclass(frozen=True)
class Term:
    """`weight` times the mean of a measure over the images it is `on`. measure: a name in MEASURES."""

    measure: Literal["shift", "latent", "image", "error", "features", "detail"]
    on: Literal["clean", "attacked"]
    weight: float


class Clean:
    """What is known of clean images before the encoder in training sees them, each computed once, when first asked for."""

    def __init__(self, x: Images, original: VAE, features: Features | None):
        self.x, self.original, self.network = x, original, features

    @cached_property
    def latents(self) -> Latents:
        with torch.no_grad():
            return self.original.mean(self.x)

    @cached_property
    def mirrored(self) -> Latents:
        """Latents of the images upside down: of another picture, which depends on no neighbour."""
        with torch.no_grad():
            return self.original.mean(self.x.flip(2))

    @cached_property
    def error(self) -> PerImage:
        """MSE(D(E₀(x)), x). The floor is that of rounding to grey levels twice: no picture weighs more for being flat."""
        with torch.no_grad():
            return (self.original.decode(self.latents) - self.x).square().mean((1, 2, 3)).clamp_min(1e-5)

    @cached_property
    def columns(self) -> list[Tensor]:
        assert self.network is not None
        with torch.no_grad():
            return self.network.columns(self.x, STAGES)

    @cached_property
    def detail(self) -> Float[Tensor, "b rows columns"]:
        return detail(self.x)

    def part(self, rows: slice | Tensor) -> Clean:
        """The images `rows`, with what is known of them."""
        part = Clean(self.x[rows], self.original, self.network)
        for name in ("latents", "mirrored", "error", "detail"):
            if name in self.__dict__:
                part.__dict__[name] = self.__dict__[name][rows]
        if "columns" in self.__dict__:
            part.__dict__["columns"] = [column[rows] for column in self.columns]
        return part


@dataclass
class Seen:
    """A batch as the encoder in training sees it. latents: E of the clean images or of the attacked ones; images: D of them."""

    clean: Clean
    latents: Latents
    images: Images | None = None


def shift(seen: Seen) -> PerImage:
    """‖E(x′) − E₀(x)‖² / ‖E₀(x)‖²: how far latents lie from the original's, whatever their scale."""
    return squared_shift(seen.latents, seen.clean.latents)


def latent(seen: Seen) -> PerImage:
    """‖E(x′) − E₀(x)‖², a mean over the latent's elements."""
    return (seen.latents - seen.clean.latents).square().mean((1, 2, 3))


def image(seen: Seen) -> PerImage:
    """MSE(D(E(x′)), x)."""
    return (_decoded(seen) - seen.clean.x).square().mean((1, 2, 3))


def error(seen: Seen) -> PerImage:
    """MSE(D(E(x′)), x) / MSE(D(E₀(x)), x): what the decoder feels of a shift, whatever the quality of the autoencoder."""
    return image(seen) / seen.clean.error


def features(seen: Seen) -> PerImage:
    """P(D(E(x′)), x), P the feature distance of the first STAGES stages; of LPIPS's networks that is not all of LPIPS."""
    assert seen.clean.network is not None
    return feature_distance(seen.clean.network.columns(_decoded(seen), STAGES), seen.clean.columns)


def sharpness(seen: Seen) -> PerImage:
    """Squared difference of log local sharpness: squared error alone prefers blur."""
    return detail_distance(detail(_decoded(seen).float()), seen.clean.detail)


def _decoded(seen: Seen) -> Images:
    assert seen.images is not None
    return seen.images


MEASURES: dict[str, Callable[[Seen], PerImage]] = {
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
    clean: Clean,
    attacked: Images | None,
    terms: Sequence[Term],
    looked: Sequence[int] | None = None,
    decode_every: int = 1,
) -> tuple[PerImage, dict[str, Tensor]]:
    """The loss to minimise over the encoder, one number an image, and the parts of its mean for the log.

    encode: images → mean latents, through whatever wraps the encoder for several processes. attacked: None leaves out the terms
    on attacked images. looked: the rows of which pictures are decoded, one in `decode_every` of all images; terms on pictures
    count so many times as much there. Clean and attacked images go through the encoder in one call, and those that a term looks
    at decoded through the decoder in one; what no term looks at is not computed.
    """
    known = {"clean": clean.x} if attacked is None else {"clean": clean.x, "attacked": attacked}
    used = [term for term in terms if term.weight and term.on in known]
    sides = {side: x for side, x in known.items() if any(term.on == side for term in used)}
    latents = dict(zip(sides, encode(torch.cat([*sides.values()])).chunk(len(sides)), strict=True))
    seen = {side: Seen(clean, latents[side]) for side in sides}
    rows = torch.arange(len(clean.x)) if looked is None else torch.tensor(looked, dtype=torch.long)
    pictures = _decode(vae, clean, latents, [term for term in used if term.measure in DECODED], rows)
    parts: dict[str, PerImage] = {}
    for term in used:
        if term.measure not in DECODED:
            value = MEASURES[term.measure](seen[term.on])
        else:
            # Nought, with a graph: images that no term looks at have a gradient of zeros, not none.
            value = 0 * latents[term.on].float().mean((1, 2, 3))
            if term.on in pictures:
                found = decode_every * MEASURES[term.measure](pictures[term.on])
                value = value.index_copy(0, rows.to(value.device), found.float())
        parts[f"{term.measure} {term.on}"] = term.weight * value
    return torch.stack([*parts.values()]).sum(0), {name: part.detach().mean() for name, part in parts.items()}


def _decode(vae: VAE, clean: Clean, latents: dict[str, Latents], terms: Sequence[Term], rows: Tensor) -> dict[str, Seen]:
    """What the `terms` look at: the pictures of `rows`, by the side that they are on."""
    sides = [side for side in latents if any(term.on == side for term in terms)]
    if not sides or not len(rows):
        return {}
    for term in terms:
        getattr(clean, DECODED[term.measure])  # known of the whole batch, so that it is computed once
    part = clean if len(rows) == len(clean.x) else clean.part(rows)
    own = {side: latents[side][rows] for side in sides}
    images = vae.decode(torch.cat([*own.values()])).chunk(len(sides))
    return {side: Seen(part, own[side], y) for side, y in zip(sides, images, strict=True)}


# The weight of the term that keeps clean latents close: where it starts, how fast its logarithm follows, how far it may go.
WEIGHT, PACE, BOUNDS = 10.0, 0.05, (0.1, 1000.0)


def steered(log_weight: float, moved: float, bound: float) -> float:
    """Dual ascent on the logarithm of that weight: up where the squared shift `moved` is above `bound` squared, else down."""
    error = max(-1.0, min(1.0, moved / bound**2 - 1))
    low, high = (math.log(end) for end in BOUNDS)
    return max(low, min(high, log_weight + PACE * error))
