"""A pipeline of Stable Diffusion's as one file, under the names of its original code."""

from __future__ import annotations

import re

import torch

from srlvae.models.formats.layouts import to_ldm
from srlvae.models.pipeline import Pipeline

RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
ENDS = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}


def unet_name(name: str) -> str:
    """Of levels with two layers each: three blocks a level, the last of which changes the size."""
    for new, old in ENDS.items():
        name = re.sub(rf"^{new}\.", f"{old}.", name)
    if found := re.match(
        r"(down_blocks\.\d+|up_blocks\.\d+|mid_block)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.*)", name
    ):
        level, kind, number, rest = found[1], found[2], int(found[3]), found[4]
        if kind == "resnets":
            rest = re.sub(r"^\w+", lambda word: RESNET[word[0]], rest)
        if level == "mid_block":
            return f"middle_block.{1 if kind == 'attentions' else 2 * number}.{rest}"
        part, at = level.split("_")[0], int(level.split(".")[1])
        if kind == "downsamplers":
            return f"input_blocks.{3 * at + 3}.0.{rest.replace('conv', 'op')}"
        if kind == "upsamplers":
            return f"output_blocks.{3 * at + 2}.{2 if at else 1}.{rest}"
        place = f"input_blocks.{3 * at + number + 1}" if part == "down" else f"output_blocks.{3 * at + number}"
        return f"{place}.{0 if kind == 'resnets' else 1}.{rest}"
    return name


def checkpoint(pipeline: Pipeline) -> dict[str, torch.Tensor]:
    pipe = pipeline.pipe
    found = {f"model.diffusion_model.{unet_name(name)}": value for name, value in pipe.unet.state_dict().items()}
    found |= {f"first_stage_model.{name}": value for name, value in to_ldm(pipe.vae.state_dict()).items()}
    text = {re.sub(r"^(?!text_model\.)", "text_model.", name): value for name, value in pipe.text_encoder.state_dict().items()}
    found |= {f"cond_stage_model.transformer.{name}": value for name, value in text.items()}
    return {name: value.contiguous() for name, value in found.items()}
