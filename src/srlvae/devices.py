"""Where tensors live: the device that is taken by default, copies onto it that nobody waits for, and fast products on it."""

from __future__ import annotations

import torch
from torch import Tensor


def default_device() -> torch.device:
    """The accelerator of this machine, such as a GPU of NVIDIA or Apple, or the CPU where there is none."""
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return found or torch.device("cpu")


def onto(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor of the CPU to a device. On a CUDA device the program goes on meanwhile."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def fast_products() -> None:
    """Let NVIDIA's tensor cores round what float32 convolutions and products read to TF32, ten bits, in all of the process."""
    if torch.cuda.is_available():  # torch's switch for all devices would change what CPUs compute
        torch.backends.cuda.matmul.allow_tf32 = True
        torch.backends.cudnn.allow_tf32 = True
