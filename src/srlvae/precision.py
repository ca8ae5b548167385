"""In which precision networks compute: bfloat16 or float16 by autocast, or float32."""

from __future__ import annotations

import contextlib
from typing import Literal, get_args

import torch

from srlvae.devices import default_device
from srlvae.errors import InputError

Precision = Literal["auto", "no", "bf16", "fp16"]
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def settled(precision: str, device: torch.device | None = None) -> str:
    """What is computed on a device, by default the one that is taken: "auto" is bfloat16 where that is multiplied in hardware.

    Elsewhere it is float32, and so is "fp16" on a CPU. Raises InputError for an unknown precision.
    """
    if precision not in get_args(Precision):
        raise InputError(f"precision is one of {', '.join(get_args(Precision))}, got {precision}")
    device = device or default_device()
    if precision == "auto":
        return "bf16" if bf16_pays(device) else "no"
    return "no" if dtype_of(precision, device) is None else precision


def bf16_pays(device: torch.device) -> bool:
    """Whether a device multiplies bfloat16 in hardware. If it does not, autocast is slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu" and hasattr(torch.cpu, "get_capabilities"):
        capabilities = torch.cpu.get_capabilities()
        return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    return False


def dtype_of(precision: str, device: torch.device) -> torch.dtype | None:
    """What autocast computes in on a device, or None for float32. On CPUs, "fp16" is float32."""
    return None if precision == "fp16" and device.type == "cpu" else DTYPES.get(precision)


def computing(precision: str, device: torch.device) -> contextlib.AbstractContextManager:
    """A context in which networks compute in a precision that is settled."""
    dtype = dtype_of(precision, device)
    return torch.autocast(device.type, dtype) if dtype else contextlib.nullcontext()
