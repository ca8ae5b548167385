"""How much memory a hardening run needs, and how many images at once fit: worked out on shapes before the first step."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from srlvae.errors import InputError
from srlvae.harden.networks import Networks
from srlvae.harden.settings import HardenConfig
from srlvae.harden.terms import CleanBatch, Term, outer_loss
from srlvae.memory import free_memory, gigabytes
from srlvae.metrics.features import Features
from srlvae.models.memory import Held, shell
from srlvae.models.vae import VAE
from srlvae.training.precision import keep_norms_float32
from srlvae.training.processes import neighbours
from srlvae.training.recompute import checkpoint_layers

# Share of the free memory that may be planned for: convolutions take some that is not PyTorch's to count.
SHARE = 0.9
# Networks of a run beside the features: the original, its copy to compute with, and the one in training.
COPIES = 3


@dataclass(frozen=True)
class Fit:
    """How a run is cut to the memory that is free.

    - `micro` images go through the networks at once, with gradient checkpointing or without.
    - `needed` are the bytes that the steps take beside the networks, or None where they cannot be counted.
    - `room` are the bytes that are free, `fits` says whether that is enough.
    """

    micro: int
    checkpointing: bool
    needed: int | None
    room: int
    fits: bool

    def said(self, batch: int) -> str:
        """The choice in words, for a process that has `batch` images in a step."""
        how = f"{self.micro} of {batch} images at once, {'with' if self.checkpointing else 'without'} gradient checkpointing"
        if self.needed is None:
            return f"memory: cannot be estimated for this network; {how}"
        told = f"memory: about {gigabytes(self.needed)} (estimated), {gigabytes(self.room)} are free; {how}"
        return told if self.fits else f"{told}; it may not be enough: give a smaller --resolution, or a device with more"


def fit(networks: Networks, terms: tuple[Term, ...], batch: int) -> Fit:
    """Choose how many of a process's `batch` images go through the networks at once, as many as fit in memory.

    Gradient checkpointing is left to the settings. Where they leave it open, it is used where not one image fits without.

    Raises InputError if it is asked for and the network cannot do it.
    """
    config, device = networks.config, networks.accelerator.device
    sizes = [config.micro_batch] if config.micro_batch else [n for n in range(batch, 0, -1) if batch % n == 0]
    # Processes that run together on CPUs have one memory.
    room = free_memory(device) // (neighbours() if device.type == "cpu" else 1)
    found = Fit(sizes[-1], False, None, room, True)
    for checkpointing in ways(networks):
        needs: dict[int, int | None] = {}
        low, high = 0, len(sizes) - 1  # the sizes fall: the first that fits
        while low < high:
            middle = (low + high) // 2 if needs else 0
            needs[middle] = needed(networks, terms, batch, sizes[middle], checkpointing)
            low, high = (low, middle) if _fits(needs[middle], room) else (middle + 1, high)
        need = needs.get(low) or needed(networks, terms, batch, sizes[low], checkpointing)
        found = Fit(sizes[low], checkpointing, need, room, _fits(need, room))
        if found.fits:
            return found
    return found


def _fits(need: int | None, room: int) -> bool:
    return need is None or need <= SHARE * room


def ways(networks: Networks) -> list[bool]:
    """Without or with gradient checkpointing, in the order in which they are tried."""
    asked = networks.config.gradient_checkpointing
    if asked != "auto":
        return [bool(asked)]
    try:
        checkpoint_layers(copy.deepcopy(networks.vae.model))
    except InputError:  # layers that cannot be computed twice
        return [False]
    return [False, True]


def needed(networks: Networks, terms: tuple[Term, ...], batch: int, micro: int, checkpointing: bool) -> int | None:
    """The bytes that steps need beside the networks, or None where the network does not let itself be counted."""
    half = networks.accelerator.dtype is not None
    # On the CPU, as all that is counted.
    features = copy.deepcopy(networks.features).cpu() if networks.features and networks.config.objective.uses_features else None
    try:
        return step_memory(networks.original, networks.config, terms, batch, micro, checkpointing, half, features)
    except InputError:
        raise
    except Exception:  # whatever a network of others does that has no meaning without values
        return None


def step_memory(
    vae: VAE,
    config: HardenConfig,
    terms: tuple[Term, ...],
    batch: int,
    micro: int,
    checkpointing: bool,
    half: bool,
    features: Features | None = None,
) -> int:
    """The bytes that steps take beside the networks, counted in a step on tensors without values.

    They are gradients, the optimiser's two moments, the batches that take turns, and what the forward and the backward pass
    hold at the worst moment. Of a process's `batch` images `micro` go through at once; `half`: in bfloat16 or float16, with
    norms in float32. Nothing here depends on the device, so that a CPU can tell of a GPU.
    """
    side = config.resolution
    with FakeTensorMode(allow_non_fake_inputs=True), Held() as held:
        training, teacher = _shell(vae), _shell(vae)
        if half:
            keep_norms_float32(training.model)
            keep_norms_float32(teacher.model)
        if checkpointing:
            checkpoint_layers(training.model)
        parameters = [p for part in training.encoder_modules().values() for p in part.requires_grad_(True).parameters()]
        x = torch.rand(micro, 3, side, side).contiguous(memory_format=torch.channels_last)
        clean = CleanBatch(x, teacher, features)
        each = x[0].numel() * 4 * 2 + clean.latents[0].numel() * 4 * 2
        if micro < batch:  # gradients of the micro-batch before
            for parameter in parameters:
                parameter.grad = torch.empty_like(parameter)
        before = held.peak = held.now
        _backward(training, clean, config, terms, half)
        weights = sum(p.numel() * p.element_size() for p in parameters)
    # Gradients that the pass makes itself are among what it holds.
    return held.peak - before + (3 if micro < batch else 2) * weights + each * batch * config.places


def _backward(vae: VAE, clean: CleanBatch, config: HardenConfig, terms: tuple[Term, ...], half: bool) -> None:
    """The forward and the backward pass of a step."""
    objective, every = config.objective, config.objective.decode_every
    attacked = (clean.x + 0).requires_grad_(objective.visits > 1) if objective.attacks else None
    looked = list(range(0, len(clean.x), every))
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        loss, _ = outer_loss(vae.mean, vae, clean, attacked, terms, looked, every)
    loss.mean().backward()


def _shell(vae: VAE) -> VAE:
    """The VAE with a network of the same configuration, without values and hooks."""
    made = copy.copy(vae)
    made.model = shell(vae.model)
    return made
