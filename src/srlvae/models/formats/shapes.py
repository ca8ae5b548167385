"""Configurations of diffusers' autoencoders, read from the names and shapes of their tensors."""

from __future__ import annotations

import re
from typing import Any

from srlvae.errors import InputError
from srlvae.models.formats.layouts import State

# Groups of the normalisation, which no shape shows; all of LDM's have as many.
GROUPS = 32


def kl_shape(state: State) -> tuple[list[int], int]:
    """The widths of the levels and the channels of the latents of an AutoencoderKL with these tensors.

    Raises InputError for tensors that are not those of an AutoencoderKL, with its encoder and decoder.
    """
    for name in ("encoder.conv_out.weight", "decoder.conv_in.weight", "decoder.conv_out.weight"):
        if name not in state:
            raise InputError(f"weights are missing, such as {name}; a whole autoencoder is needed")
    channels = state["decoder.conv_in.weight"].shape[1]
    if state["encoder.conv_out.weight"].shape[0] != 2 * channels:
        raise InputError(f"its encoder does not make a mean and variance of {channels} channels, so it is not an AutoencoderKL")
    levels = _numbers(state, r"encoder\.down_blocks\.(\d+)\.")
    return [state[f"encoder.down_blocks.{level}.resnets.0.conv1.weight"].shape[0] for level in levels], channels


def kl_config(state: State, groups: int | None = None) -> dict[str, Any]:
    """The configuration of an AutoencoderKL with these tensors, without its scaling. groups: where they are known.

    Raises InputError as `kl_shape`, and where the groups are not known and cannot be those of LDM.
    """
    widths, channels = kl_shape(state)
    if groups is None and any(width % GROUPS for width in widths):
        raise InputError(f"widths {widths} are not multiples of {GROUPS} groups; put the model's config.json beside the file")
    return {
        "_class_name": "AutoencoderKL",
        "in_channels": state["encoder.conv_in.weight"].shape[1],
        "out_channels": state["decoder.conv_out.weight"].shape[0],
        "latent_channels": channels,
        "block_out_channels": widths,
        "down_block_types": ["DownEncoderBlock2D"] * len(widths),
        "up_block_types": ["UpDecoderBlock2D"] * len(widths),
        "layers_per_block": len(_numbers(state, r"encoder\.down_blocks\.0\.resnets\.(\d+)\.")),
        "norm_num_groups": groups or GROUPS,
        "mid_block_add_attention": "encoder.mid_block.attentions.0.to_q.weight" in state,
        "use_quant_conv": "quant_conv.weight" in state,
        "use_post_quant_conv": "post_quant_conv.weight" in state,
    }


def wan_config(state: State) -> dict[str, Any]:
    """The configuration of an AutoencoderKLWan with these tensors; levels and statistics are those of Wan 2.1."""
    return {
        "_class_name": "AutoencoderKLWan",
        "base_dim": state["encoder.conv_in.weight"].shape[0],
        "z_dim": state["post_quant_conv.weight"].shape[0],
    }


def tiny_config(state: State) -> dict[str, Any]:
    """The configuration of an AutoencoderTiny with these tensors."""
    encoder, decoder = _stages(state, "encoder"), _stages(state, "decoder")
    return {
        "_class_name": "AutoencoderTiny",
        "latent_channels": state["decoder.layers.0.weight"].shape[1],
        "num_encoder_blocks": [blocks for _, blocks in encoder],
        "num_decoder_blocks": [blocks for _, blocks in decoder],
        "encoder_block_out_channels": [width for width, _ in encoder],
        "decoder_block_out_channels": [width for width, _ in decoder],
    }


def _stages(state: State, part: str) -> list[tuple[int, int]]:
    """Width and number of blocks of each stage: a convolution, and the blocks up to the next one."""
    found: list[tuple[int, int]] = []
    for number in _numbers(state, rf"{part}\.layers\.(\d+)\."):
        weight = state.get(f"{part}.layers.{number}.weight")
        if weight is not None:
            found.append((weight.shape[0], 0))
        elif found:
            found[-1] = found[-1][0], found[-1][1] + 1
    # The last convolution leads out.
    return found[:-1]


def _numbers(state: State, pattern: str) -> list[int]:
    return sorted({int(found[1]) for name in state if (found := re.match(pattern, name))})
