"""Which precision a run computes in."""

from __future__ import annotations

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from srlvae.harden.settings import HardenConfig


def make_accelerator(config: HardenConfig) -> Accelerator:
    precision = config.precision
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
