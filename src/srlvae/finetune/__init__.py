"""Fine-tuning a pipeline on captioned images as people do: all of the UNet, or LoRA on its attention.

VAE and text encoders stay as they are. The UNet learns of an image only what the pipeline's VAE makes of it, so a pipeline with
a hardened encoder sees a poison as what it shows.
"""

from __future__ import annotations

from srlvae.finetune.captions import Captions, read_captions
from srlvae.finetune.folder import CHECKPOINT, finetune
from srlvae.finetune.latents import encode_images
from srlvae.finetune.loop import FinetuneConfig, tune

__all__ = ["CHECKPOINT", "Captions", "FinetuneConfig", "encode_images", "finetune", "read_captions", "tune"]
