"""Whether two VAEs belong together, as an original and what hardening made of it do."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from srlvae.errors import InputError
from srlvae.events import Listener
from srlvae.models.autoencoder import ENCODER_MODULES, VAE

# Latents of one kind have a cosine above this, after hard training too; those of different models are near 0.
ALIKE = 0.5
# Side in pixels of the picture on which latents are compared, and of the squares of colour in it.
SIDE, SQUARES = 128, 4
# What rounding changes at most: bfloat16, as a share of the weight, and float16 near zero.
ROUNDING, SMALLEST = 2**-8, 2**-24


def check_like(original: VAE, other: VAE) -> None:
    """Raise InputError if the latents of two VAEs have different shapes, so that neither can take the other's place."""
    if (original.channels, original.factor) != (other.channels, other.factor):
        latents = (f"{vae.channels} channels, {vae.factor} times smaller than the image" for vae in (original, other))
        raise InputError(
            f"the two VAEs do not belong together: one has latents of {' and the other of '.join(latents)}; give a VAE "
            "that was hardened from the original"
        )


def check_twin(original: VAE, hardened: VAE, twin: VAE) -> None:
    """Raise InputError for a twin whose latents have another shape, or that is one of the two VAEs itself."""
    check_like(original, twin)
    if twin.fingerprint() in (original.fingerprint(), hardened.fingerprint()):
        raise InputError(
            "the twin is the original or the hardened VAE itself, so that attacks on it would not be transferred; give what "
            "another run of srlvae harden made, with another --seed"
        )


def differences(original: VAE, other: VAE) -> list[str]:
    """What speaks against one VAE being made from the other by hardening, in sentences."""
    if original.fingerprint() == other.fingerprint():
        return ["the two VAEs are one and the same"]
    found = []
    if not _one_decoder(original, other):
        found.append("the two VAEs do not share a decoder: what is measured is not their encoders alone")
    if original.settings() != other.settings():
        found.append("the two VAEs scale their latents differently")
    return found + unlike(original, other)


def _one_decoder(original: VAE, other: VAE) -> bool:
    """Whether everything but the encoders is the same, apart from what rounding to float16 or bfloat16 changes."""
    weights = [vae.model.state_dict() for vae in (original, other)]
    first, second = (
        {name: w.float().cpu() for name, w in kept.items() if name.split(".")[0] not in ENCODER_MODULES} for kept in weights
    )
    return first.keys() == second.keys() and all(
        first[name].shape == w.shape and torch.allclose(first[name], w, rtol=ROUNDING, atol=SMALLEST)
        for name, w in second.items()
    )


def told_differences(original: VAE, other: VAE, listener: Listener) -> list[str]:
    """`differences`, of which the listener is told before hours of work rest on them.

    Raises InputError as `check_like` does.
    """
    check_like(original, other)
    found = differences(original, other)
    for doubt in found:
        listener.says(f"Do not believe what follows: {doubt}")
    return found


@torch.no_grad()
def unlike(original: VAE, other: VAE) -> list[str]:
    """A sentence if the scaled latents of two VAEs have nothing in common, as seen on a smooth picture that is made up.

    What hardening makes of a VAE writes nearly the same ones.
    """
    if original.factor != other.factor:
        return [f"the two VAEs make images {original.factor} and {other.factor} times smaller"]
    colours = torch.rand(1, 3, SQUARES, SQUARES, generator=torch.Generator().manual_seed(0))
    picture = F.interpolate(colours, size=(SIDE, SIDE), mode="bicubic").clamp(0, 1)
    written = [vae.to_scaled(vae.mean(picture.to(vae.device))).flatten().cpu() for vae in (original, other)]
    cosine = F.cosine_similarity(*written, dim=0).item()
    return [f"the two VAEs write latents of different kinds (a cosine of {cosine:.2f})"] if cosine < ALIKE else []
