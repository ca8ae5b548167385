"""In which precision networks compute: bfloat16 or float16 by autocast, or float32."""

from __future__ import annotations

import contextlib
from typing import Literal, get_args

import torch

from srlvae.errors import InputError

Precision = Literal["auto", "no", "bf16", "fp16"]
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def settled(precision: str) -> str:
    """The precision itself, or for "auto" bfloat16 where this machine multiplies it in hardware and float32 elsewhere.

    Raises InputError for an unknown precision.
    """
    if precision not in get_args(Precision):
        raise InputError(f"precision is one of {', '.join(get_args(Precision))}, got {precision}")
    return precision if precision != "auto" else "bf16" if bf16_pays() else "no"


def bf16_pays() -> bool:
    """Whether this machine multiplies bfloat16 in hardware. If it does not, autocast is slower than float32."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if hasattr(torch.cpu, "get_capabilities"):
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
