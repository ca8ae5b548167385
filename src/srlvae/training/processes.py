"""The processes that torchrun or accelerate started together, for training, benchmarks and scans alike."""

from __future__ import annotations

import os

import torch
from accelerate import PartialState


def processes() -> PartialState:
    """The state of this process among those that were started together; alone, it is the main one.

    Without a GPU they talk over gloo, which accelerate has to be told: left to itself it takes each of them for the only one.
    """
    return PartialState(cpu=on_cpu())


def on_cpu() -> bool:
    """Whether several processes were started on a machine without a GPU or the like."""
    return "LOCAL_RANK" in os.environ and not torch.accelerator.is_available()
