"""Randomly initialised pipelines with the configurations of SD 1.5 and SDXL, made narrow; everything else is as published."""

from __future__ import annotations

import functools
from typing import Any

import diffusers
import torch
from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from conftest import built_once
from srlvae.models.pipeline import Pipeline

SIZE = 64

# scheduler_config.json of runwayml/stable-diffusion-v1-5 and of stabilityai/stable-diffusion-xl-base-1.0.
BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000}
SD15_SCHEDULER = {**BETAS, "set_alpha_to_one": False, "skip_prk_steps": True, "steps_offset": 1}
SDXL_SCHEDULER = {**BETAS, "steps_offset": 1, "timestep_spacing": "leading"}


@functools.cache
def tokenizer() -> CLIPTokenizer:
    """Of bytes and of a few words. It is written out, since a trained one has other numbers each time."""
    letters, merges = sorted(ByteLevel.alphabet()), []
    for word in ("photo", "of", "cat", "dog"):
        parts = [*word[:-1], word[-1] + "</w>"]
        merges += [("".join(parts[:k]), parts[k]) for k in range(1, len(parts))]
    tokens = [*letters, *(letter + "</w>" for letter in letters), *map("".join, merges), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer({token: k for k, token in enumerate(dict.fromkeys(tokens))}, merges, model_max_length=16)


def text_config(**changes) -> CLIPTextConfig:
    words = tokenizer()
    return CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=16,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
        **changes,
    )


# As published, and one with a seventh of the layers for what runs many steps.
LEVELS = {
    "sample_size": SIZE,
    "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
    "block_out_channels": (32, 32, 32, 32),
    "layers_per_block": 2,
}
FEW_LEVELS = {
    "sample_size": SIZE // 2,
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "block_out_channels": (32, 32),
    "layers_per_block": 1,
}


@built_once
def sd15_networks(factor: int, channels: int, inpainting: bool, little: bool) -> dict[str, Any]:
    torch.manual_seed(0)
    levels = FEW_LEVELS if little else LEVELS
    unet = diffusers.UNet2DConditionModel(
        in_channels=2 * channels + 1 if inpainting else channels,
        out_channels=channels,
        attention_head_dim=8,
        cross_attention_dim=32,
        norm_num_groups=8,
        **levels | {"sample_size": levels["sample_size"] // factor},
    )
    return {"unet": unet, "text_encoder": CLIPTextModel(text_config())}


def sd15(vae, prediction_type: str = "epsilon", inpainting: bool = False, little: bool = False) -> Pipeline:
    scheduler = diffusers.PNDMScheduler(**SD15_SCHEDULER, prediction_type=prediction_type)
    networks = sd15_networks(vae.factor, vae.channels, inpainting, little)
    parts = {"vae": vae.model, "tokenizer": tokenizer(), **networks}
    pipe = diffusers.StableDiffusionPipeline(
        **parts, scheduler=scheduler, safety_checker=None, feature_extractor=None, requires_safety_checker=False
    )
    return Pipeline(frozen(pipe))


def little(vae) -> Pipeline:
    """SD 1.5 with few layers, for images of 32 pixels."""
    return sd15(vae, little=True)


@built_once
def sdxl_networks(factor: int, channels: int) -> dict[str, Any]:
    torch.manual_seed(0)
    unet = diffusers.UNet2DConditionModel(
        sample_size=SIZE // factor,
        in_channels=channels,
        out_channels=channels,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(32, 32, 64),
        layers_per_block=2,
        transformer_layers_per_block=(1, 2, 2),
        attention_head_dim=(2, 4, 8),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + 32,
        cross_attention_dim=64,
        norm_num_groups=8,
    )
    first = CLIPTextModel(text_config(hidden_act="quick_gelu"))
    second = CLIPTextModelWithProjection(text_config(hidden_act="gelu", projection_dim=32))
    return {"unet": unet, "text_encoder": first, "text_encoder_2": second}


def sdxl(vae) -> Pipeline:
    pipe = diffusers.StableDiffusionXLPipeline(
        vae=vae.model,
        tokenizer=tokenizer(),
        tokenizer_2=tokenizer(),
        scheduler=diffusers.EulerDiscreteScheduler(**SDXL_SCHEDULER),
        add_watermarker=False,
        **sdxl_networks(vae.factor, vae.channels),
    )
    return Pipeline(frozen(pipe))


def frozen(pipe):
    for name in ("unet", "text_encoder", "text_encoder_2"):
        if getattr(pipe, name, None) is not None:
            getattr(pipe, name).eval().requires_grad_(False)
    return pipe


def pixel() -> diffusers.DDPMPipeline:
    """A random DDPM of 16 pixels."""
    torch.manual_seed(0)
    blocks = {"down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2}
    unet = diffusers.UNet2DModel(sample_size=16, block_out_channels=(8, 8), layers_per_block=1, norm_num_groups=4, **blocks)
    return frozen(diffusers.DDPMPipeline(unet, diffusers.DDPMScheduler()))
