"""VAEs of the real configurations of well-known models, with random weights."""

from __future__ import annotations

import torch
from diffusers import AutoencoderKL, AutoencoderTiny

from srlvae.models.vae import VAE

LARGE = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
}
CONFIGURATIONS = {
    "sd-1.5": {"latent_channels": 4, "sample_size": 512, "scaling_factor": 0.18215},
    "sdxl": {"latent_channels": 4, "sample_size": 1024, "scaling_factor": 0.13025},
    "flux": {
        "latent_channels": 16,
        "sample_size": 1024,
        "scaling_factor": 0.3611,
        "shift_factor": 0.1159,
        "use_quant_conv": False,
        "use_post_quant_conv": False,
    },
}


def large(name: str) -> VAE:
    """The VAE of Stable Diffusion 1.5, SDXL or FLUX."""
    torch.manual_seed(0)
    return VAE(AutoencoderKL(**LARGE, **CONFIGURATIONS[name]).eval().requires_grad_(False))


def taesd() -> VAE:
    torch.manual_seed(0)
    return VAE(AutoencoderTiny().eval().requires_grad_(False))
