"""Purifiers by diffusion on pixels, through diffusers' own pipelines. What fools a VAE does not fool them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from srlvae.errors import InputError
from srlvae.images import Images
from srlvae.purify.table import Purifier
from srlvae.rng import Generators, normal_like


@torch.no_grad()
def diffpure(x: Images, *, generators: Generators, pixel: Any, t: int) -> Images:
    """Noise `x` to step `t` of an unconditional model's training schedule, and denoise it by each of its steps.

    DiffPure (Nie et al. 2022, arXiv 2205.07460, Algorithm 1 with the DDPM sampler). `pixel` is a DDPMPipeline. Images are
    resized to the side that it was trained for, and back. Raises InputError for more steps than the model was trained with.
    """
    unet, scheduler = pixel.unet, type(pixel.scheduler).from_config(pixel.scheduler.config)
    if t > (trained := scheduler.config.num_train_timesteps):
        raise InputError(f"t is {t}; the model was trained with {trained} steps")
    scheduler.set_timesteps(trained)
    small = _resized(x, (unet.config.sample_size,) * 2)
    start = torch.full((len(x),), t - 1, device=x.device)
    z = scheduler.add_noise(small * 2 - 1, normal_like(small, generators), start)
    for step in range(t - 1, -1, -1):
        z = scheduler.step(unet(z.to(unet.dtype), step).sample.float(), step, z, generator=list(generators)).prev_sample
    return _resized((z + 1) / 2, x.shape[-2:])


@torch.no_grad()
def noisy_upscaling(x: Images, *, generators: Generators, upscaler: Any, sigma: float, level: int, steps: int) -> Images:
    """Add Gaussian noise, upscale with Stable Diffusion's x4 upscaler told of that much noise, and reduce to the old size.

    Hönig et al. 2024 (arXiv 2406.12027), with σ = 0.1 and noise level 320. `upscaler` is a StableDiffusionUpscalePipeline.
    """
    noisy = (x + sigma * normal_like(x, generators)).clamp(0, 1)
    options = {"noise_level": level, "num_inference_steps": steps, "output_type": "pt", "generator": list(generators)}
    return _resized(_quiet(upscaler)([""] * len(x), image=noisy, **options).images.float(), x.shape[-2:])


@torch.no_grad()
def pdm_pure(
    x: Images, *, generators: Generators, pixel_upscaler: Any, strength: float, steps: int, guidance: float, low: int
) -> Images:
    """Edit `x` by SDEdit with a pixel diffusion model that also sees the small image.

    PDM-Pure (Xue and Chen 2024, arXiv 2404.13320) with DeepFloyd IF's second stage. Images are resized to the model's own side,
    noised to `strength`, and denoised beside a copy of `low` pixels under the prompt "a picture", then resized back. The
    paper's optional last upscaling uses the network of `noisy_upscaling` and is left out. `pixel_upscaler` is an
    IFImg2ImgSuperResolutionPipeline.
    """
    side = pixel_upscaler.unet.config.sample_size
    found = _quiet(pixel_upscaler)(
        image=_resized(x, (low, low)) * 2 - 1,
        original_image=_resized(x, (side, side)) * 2 - 1,
        prompt=["a picture"] * len(x),
        strength=strength,
        num_inference_steps=steps,
        guidance_scale=guidance,
        generator=list(generators),
        output_type="pt",
    )
    return _resized((found.images.float() + 1) / 2, x.shape[-2:])


def _quiet(pipe: Any) -> Any:
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _resized(x: Tensor, size: tuple[int, ...]) -> Tensor:
    return F.interpolate(x, tuple(size), mode="bicubic", antialias=True).clamp(0, 1)


DIFFPURE = Purifier(diffpure, "DiffPure, arXiv 2205.07460; 100 to 150 steps", "pixel", {"t": 150}, {"t": 2})
NOISY_UPSCALING = Purifier(
    noisy_upscaling,
    "noisy upscaling, arXiv 2406.12027",
    "upscaler",
    {"sigma": 0.1, "level": 320, "steps": 75},
    {"steps": 2},
)
PDM_PURE = Purifier(
    pdm_pure,
    "PDM-Pure, arXiv 2404.13320",
    "pixel-upscaler",
    {"strength": 0.5, "steps": 100, "guidance": 7.0, "low": 64},
    {"steps": 4},
)
