"""Which precision a run computes in: bfloat16 or float16 by autocast, or float32."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterable

import torch
from accelerate import Accelerator
from accelerate.state import is_initialized
from torch import Tensor, nn

from srlvae.errors import InputError
from srlvae.precision import computing, dtype_of, settled
from srlvae.training.processes import told, too_few_gpus


class MixedAccelerator:
    """Where a run computes and in which precision: accelerate's processes and device, with torch's own autocast.

    accelerate offers autocast and a gradient scaler as well, but it keeps one precision for the whole process. Here every run
    has its own. `processes` is accelerate's object, which knows of no precision. `mixed_precision` is "no", "bf16" or "fp16".
    `scaler` scales the loss for float16 and is None otherwise. On CPUs, "fp16" computes in float32. `device` is by default the
    one that this process has among those that were started together.
    """

    def __init__(self, mixed_precision: str, device: torch.device | None = None):
        self.processes, self.mixed_precision = _processes(), mixed_precision
        self.device = device or self.processes.device
        self.dtype = dtype_of(mixed_precision, self.device)
        self.scaler = torch.amp.GradScaler(self.device.type) if self.dtype == torch.float16 else None

    def autocast(self) -> contextlib.AbstractContextManager:
        """A context in which networks compute in the run's precision."""
        return computing(self.mixed_precision, self.device)

    @property
    def kind(self) -> str:
        """The type of numbers that networks compute in, such as bfloat16."""
        return str(self.dtype or torch.float32).removeprefix("torch.")

    def backward(self, loss: Tensor) -> None:
        """Accumulate the gradient of a loss, scaled for float16."""
        self.processes.backward(self.scaler.scale(loss) if self.scaler else loss)

    def clip_gradients(self, optimizer: torch.optim.Optimizer, parameters: Iterable[Tensor], largest: float) -> Tensor | None:
        """Undo the scaling, bring the norm of the gradients down to `largest`, and return the norm before that."""
        if self.scaler:
            self.scaler.unscale_(optimizer)
        return self.processes.clip_grad_norm_(parameters, largest)

    def leave_out(self, optimizer: torch.optim.Optimizer) -> None:
        """Keep gradients that are not finite from the weights in the step that comes."""
        # A scaler leaves the step out by itself, and has to see them.
        if self.scaler is None:
            optimizer.zero_grad()

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        """Take the optimiser's step. float16's scaler leaves out a step whose gradients are not finite."""
        if self.scaler:
            self.scaler.step(optimizer)
            self.scaler.update()
        else:
            optimizer.step()

    def scaling(self) -> dict[str, float]:
        """The state of float16's scaler, for a checkpoint. It is empty in other precisions."""
        return self.scaler.state_dict() if self.scaler else {}

    def restore_scaling(self, state: dict[str, float]) -> None:
        """Go on with the state of a checkpoint. An empty one, which a run of another precision left, changes nothing."""
        if self.scaler and state:
            self.scaler.load_state_dict(state)


def make_accelerator(precision: str, device: torch.device | None = None) -> MixedAccelerator:
    """An accelerator that computes in a `Precision`; "auto" is bfloat16 where the machine multiplies it in hardware.

    `device` is as in `MixedAccelerator`.

    Raises InputError for an unknown precision, or if the caller has set accelerate up for a precision of its own.
    """
    return MixedAccelerator(chosen_precision(precision), device)


def chosen_precision(precision: str) -> str:
    """The precision itself, or for "auto" bfloat16 where the machine multiplies it in hardware and float32 elsewhere.

    Raises InputError for an unknown precision.
    """
    return automatic_precision() if precision == "auto" else settled(precision)


@functools.cache
def automatic_precision() -> str:
    """What "auto" stands for. The main process's machine decides for all that run together, which ask at the same time."""
    return told(settled("auto"))


def _processes() -> Accelerator:
    # The precision of accelerate's shared state cannot be changed; a caller's own accelerator may have set one.
    accelerator = Accelerator(cpu=too_few_gpus(), mixed_precision=None if is_initialized() else "no")
    if accelerator.mixed_precision != "no":
        raise InputError(
            f"accelerate was set up with mixed_precision={accelerator.mixed_precision!r} in this process; "
            "leave that out, and give srlvae the precision"
        )
    return accelerator


def keep_norms_float32(model: nn.Module) -> None:
    """Make group norms compute in float32 under autocast.

    On CPUs, their backward pass in bfloat16 takes four times as long.
    """
    for module in model.modules():
        if isinstance(module, nn.GroupNorm):
            module.register_forward_pre_hook(_to_float32)


def _to_float32(module: nn.Module, inputs: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
    return (inputs[0].float(),)
