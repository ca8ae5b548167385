"""How much memory a step of an attack takes, before it starts: measured on a small image, and said in words."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import torch

from srlvae.attacks.prepared import PreparedAttack
from srlvae.events import Listener
from srlvae.memory import free_memory, gigabytes
from srlvae.models.memory import announce_peak, image_to_image_peak, saved_bytes
from srlvae.models.pipeline import Pipeline
from srlvae.words import counted

Size = tuple[int, int]
# Side of the small image, in latents.
SIDE = 16
# What a backward pass takes beside what the forward pass kept for it: gradients and buffers of the largest layers.
BEYOND = 1.5
# Share of the free memory that may be planned for.
SHARE = 0.9


def plan(attack: PreparedAttack, images: Mapping[Path, Size], batch: int, listener: Listener) -> dict[Size, int]:
    """Say how much memory the largest of `images` takes, and return for each size how many fit at once, up to `batch`.

    An image of a size whose number is 0 does not fit at all. `images` has the width and the height of each.
    """
    if not images:
        return {}
    width, height = max(images.values(), key=math.prod)
    if attack.request.attack.announced and isinstance(attack.model, Pipeline):
        for line in announce_peak(attack.model, list(images), batch):
            listener.says(line)
    rate, room = _bytes_per_pixel(attack, width, height), free_memory(attack.vae.device)
    limits = {size: min(batch, int(SHARE * room / (rate * math.prod(size)))) for size in set(images.values())}
    count = max(1, min(limits[width, height], list(images.values()).count((width, height))))
    said = f"{counted(count, 'image')} of {width} x {height} pixels at once"
    listener.says(f"memory: about {gigabytes(round(rate * width * height * count))} for {said}; {gigabytes(room)} are free")
    return limits


def too_large(size: Size) -> str:
    """Why an image that does not fit into memory is left out, and what to do."""
    return (
        f"{size[0]} x {size[1]} pixels take more memory than is free; give a smaller copy, or a machine or --device with more"
    )


def _bytes_per_pixel(attack: PreparedAttack, width: int, height: int) -> float:
    """What an image takes in a step, beside the weights, for each of its pixels."""
    if attack.request.attack.announced and isinstance(attack.model, Pipeline):
        factor = attack.vae.factor
        peak = image_to_image_peak(attack.model, -(-height // factor) * factor, -(-width // factor) * factor)
        return (peak.total - peak.weights) * BEYOND / (width * height)
    side = SIDE * attack.vae.factor
    return _kept(attack, side) * BEYOND / side**2


def _kept(attack: PreparedAttack, side: int) -> int:
    """The bytes that the networks which the attack goes through keep for its backward pass, on a square of `side` pixels."""
    vae, passes, model, several = attack.vae, attack.request.attack.passes, attack.model, 1 + len(attack.also)
    x = torch.full((1, 3, side, side), 0.5, device=vae.device, requires_grad=True)
    with torch.no_grad():
        z = vae.mean(x).detach()
    kept = several * saved_bytes(lambda: vae.mean(x))
    z.requires_grad_()
    if "D" in passes:
        kept += several * saved_bytes(lambda: vae.decode(z))
    if "U" in passes and "forward" not in passes and isinstance(model, Pipeline):
        conditioning, t = model.condition([""], (side, side)), torch.zeros(1, dtype=torch.long, device=vae.device)
        seen = torch.zeros(1, vae.channels + 1, *z.shape[2:], device=z.device) if model.inpaints else None
        kept += saved_bytes(lambda: model.predict(z, t, conditioning, seen))
    return kept
