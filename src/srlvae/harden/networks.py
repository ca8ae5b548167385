"""The networks of a hardening run: the original, the one in training, its average, and the result."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from srlvae.errors import InputError
from srlvae.harden.settings import HardenConfig
from srlvae.harden.terms import CleanBatch
from srlvae.images import Images
from srlvae.metrics.features import Features, load_features
from srlvae.models.posterior import hold_variance, mean_log_variance
from srlvae.models.vae import VAE
from srlvae.training.precision import MixedAccelerator, keep_norms_float32
from srlvae.training.schedule import update_average


class Encode(nn.Module):
    """The encoder as a module from images to mean latents. It holds only what is trained, and is what accelerate wraps."""

    def __init__(self, vae: VAE):
        super().__init__()
        self.parts, self.vae = nn.ModuleDict(vae.encoder_modules()), vae

    def forward(self, x: Tensor) -> Tensor:
        """The mean latents of images."""
        return self.vae.mean_unchecked(x)


class Networks:
    """The networks of a run.

    - `original` is frozen, float32 and without hooks, as the result is a copy of it. `teacher` is a copy of it to compute with.
    - `vae` is in training. `average` is the average of its encoders, which becomes the result.
    - `features` is the network of the perceptual distance, or None.
    - `log_variance` is the variance that the result is held at, or None: the original's mean over the images `held_out`.
    """

    def __init__(self, original: VAE, config: HardenConfig, accelerator: MixedAccelerator, held_out: Images):
        self.config, self.accelerator = config, accelerator
        # The layout in which CPUs and tensor cores convolve; on a CPU it is a third faster. Convolutions over time have none.
        model: Any = original.model
        model.to(accelerator.device, **({} if original.has_frames else {"memory_format": torch.channels_last}))
        self.original, self.teacher, self.vae = original, copy.deepcopy(original), copy.deepcopy(original)
        self.log_variance = None
        if original.has_posterior and config.objective.hold_variance:
            self.log_variance = mean_log_variance(original, held_out.to(accelerator.device))
            hold_variance(copy.deepcopy(original), self.log_variance)  # refused now rather than after the last step
        # float16 overflows in the norms of some VAEs, such as SDXL's; bfloat16 is slow in them on CPUs.
        half = accelerator.dtype
        if half == torch.float16 or (accelerator.device.type == "cpu" and half == torch.bfloat16):
            for vae in (self.vae, self.teacher):
                keep_norms_float32(vae.model)
        self.features = None if config.features == "none" else load_features(config.features).to(accelerator.device)
        if self.features:
            _check_takes(self.features, config.resolution, accelerator.device)
        self.encode = Encode(self.vae).requires_grad_(True)
        self.parameters = list(self.encode.parameters())
        self.average = copy.deepcopy(self.encode.parts).requires_grad_(False)

    def clean(self, x: Images) -> CleanBatch:
        """The clean images `x` with what is known of them, with the feature network if the objective uses features.

        Raises InputError if the original encoder gives latents that are not finite.
        """
        clean = CleanBatch(x, self.teacher, self.features if self.config.objective.uses_features else None)
        if not clean.latents.isfinite().all():
            raise InputError(
                "the original encoder gives latents that are not finite on these photographs; the usual "
                "cause is SDXL's VAE in float16: try --precision no or bf16, or a VAE that was fixed for float16"
            )
        return clean

    def update_average(self, step: int) -> None:
        """Update the average with the encoder after `step` steps."""
        update_average(self.average.parameters(), self.parameters, step, self.config.ema)

    def result(self) -> VAE:
        """The original with the averaged encoder, its posterior's variance held where the objective says so."""
        hardened = copy.deepcopy(self.original)
        for name, module in hardened.encoder_modules().items():
            module.load_state_dict(self.average[name].state_dict())
        if self.log_variance is not None:
            hold_variance(hardened, self.log_variance)
        model: Any = hardened.model
        model.to(memory_format=torch.contiguous_format)
        return hardened

    def check_learnt(self) -> None:
        """Raise InputError if the averaged encoder is the same as the original."""
        before = [p for part in self.original.encoder_modules().values() for p in part.parameters()]
        if all(torch.equal(a, b) for a, b in zip(self.average.parameters(), before, strict=True)):
            raise InputError("the encoder has not changed: the run has learnt nothing, so no result is written")


@torch.no_grad()
def _check_takes(features: Features, side: int, device: torch.device) -> None:
    """Raise InputError for crops that are too small for the feature network: the scores after the last step need it."""
    try:
        features.columns(torch.zeros(1, 3, side, side, device=device))
    except RuntimeError as error:
        raise InputError(
            f"{side} pixels are too small for {features.name}, which measures distances; give a larger --resolution, or "
            "--features none"
        ) from error


def frozen_copy(vae: VAE) -> VAE:
    """A copy of a VAE in float32, frozen and in evaluation mode."""
    return VAE(copy.deepcopy(vae.model).float().eval().requires_grad_(False))
