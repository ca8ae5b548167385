"""LoRA's weights under the names of kohya's scripts, which A1111, Forge and ComfyUI read."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from srlvae.files import write_atomically

NAME = "kohya_lora.safetensors"


def save_kohya(layers: dict[str, Tensor], path: Path, *, rank: int, is_xl: bool) -> None:
    """Write LoRA's layers of a UNet, under peft's names, to `path` under kohya's. Alpha is the rank, so nothing is scaled.

    is_xl: for SDXL kohya's names are those of the original code's blocks, for Stable Diffusion those of diffusers'.
    """
    from diffusers.utils.state_dict_utils import convert_state_dict_to_kohya

    named = convert_state_dict_to_kohya({f"unet.{name}": value for name, value in layers.items()})
    found = {_original(name) if is_xl else name: value.detach().cpu().contiguous() for name, value in named.items()}
    found = {name: value.to(torch.float32) if name.endswith(".alpha") else value for name, value in found.items()}
    about = {"format": "pt", "ss_network_module": "networks.lora", "ss_network_dim": str(rank), "ss_network_alpha": str(rank)}
    write_atomically(path, lambda file: save_file(found, file, about))


def _original(name: str) -> str:
    """Blocks of attention as SDXL's original code counts them: two layers and a change of size to a level, three going up."""
    name = re.sub(r"down_blocks_(\d+)_attentions_(\d+)", lambda m: f"input_blocks_{3 * int(m[1]) + int(m[2]) + 1}_1", name)
    name = re.sub(r"up_blocks_(\d+)_attentions_(\d+)", lambda m: f"output_blocks_{3 * int(m[1]) + int(m[2])}_1", name)
    return name.replace("mid_block_attentions_0", "middle_block_1")
