"""Which precision a run computes in."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import nn

from srlvae.errors import InputError

Precision = Literal["auto", "no", "bf16", "fp16"]


def make_accelerator(precision: str) -> Accelerator:
    """An accelerator that computes in a `Precision`. Raises InputError for what is none."""
    if precision not in get_args(Precision):
        raise InputError(f"precision is one of {', '.join(get_args(Precision))}, got {precision}")
    if precision == "auto":
        precision = "bf16" if bf16_pays() else "no"
    # accelerate keeps one precision a process; a second run in it may want another.
    if AcceleratorState._shared_state and AcceleratorState().mixed_precision != precision:
        AcceleratorState._reset_state()
    return Accelerator(mixed_precision=precision)


def bf16_pays() -> bool:
    """Whether this machine multiplies bfloat16 in hardware; where it does not, autocast is slower than float32."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if hasattr(torch.cpu, "get_capabilities"):
        capabilities = torch.cpu.get_capabilities()
        return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    return False


def keep_norms_float32(model: nn.Module) -> None:
    """Have group norms compute in float32 under autocast: on CPUs their backward pass in bfloat16 takes four times as long."""
    for module in model.modules():
        if isinstance(module, nn.GroupNorm):
            module.register_forward_pre_hook(_to_float32)


def _to_float32(module: nn.Module, inputs: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
    return (inputs[0].float(),)
