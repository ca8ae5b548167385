"""LoRA on the attention of a UNet: what fine-tuning and attacks on it train in place of all weights.

Hu et al. 2022 (arXiv 2106.09685), by peft.
"""

from __future__ import annotations

from typing import Any

import torch

from srlvae.extras import need

# Of the attention layers, as diffusers' own LoRA script.
TARGETS = ["to_k", "to_q", "to_v", "to_out.0"]


def add_lora(unet: Any, rank: int, seed: int) -> None:
    """Add LoRA of that rank to the attention of a UNet, and make it all that asks for a gradient.

    Raises ModuleNotFoundError if the extra `finetune` is not installed.
    """
    (peft,) = need("finetune", "peft")
    unet.requires_grad_(False)
    # peft draws the first weights from the global generator; what is trained is a function of its seed alone.
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        unet.add_adapter(peft.LoraConfig(r=rank, lora_alpha=rank, target_modules=TARGETS))
