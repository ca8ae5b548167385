"""The processes that torchrun or accelerate started together, for training, benchmarks and scans alike."""

from __future__ import annotations

import functools
import os
from datetime import timedelta
from typing import Any, TypeVar

import torch
from accelerate import PartialState
from torch import distributed

from srlvae.errors import InputError

T = TypeVar("T")
# How long processes wait for each other: the main one may score for an hour, and a share of a scan may take longer than others.
PATIENCE = timedelta(hours=6)


def processes() -> PartialState:
    """The state of this process among those that were started together; alone, it is the main one.

    Without a GPU for each they talk over gloo, which accelerate has to be told: left to itself it takes each for the only one.
    """
    return PartialState(cpu=too_few_gpus())


def too_few_gpus() -> bool:
    """Whether more processes were started on this machine than it has GPUs or the like."""
    return "LOCAL_RANK" in os.environ and torch.accelerator.device_count() < neighbours()


def check_own_gpu() -> None:
    """Raise InputError if there are GPUs, but not one for each process of this machine: they cannot train together then."""
    if too_few_gpus() and torch.accelerator.is_available():
        count = torch.accelerator.device_count()
        raise InputError(
            f"{neighbours()} processes were started that see {count} GPUs; start one for each, and let all see all"
        )


def neighbours() -> int:
    """How many processes were started together on this machine, this one among them."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1))


def meet(doing: str) -> None:
    """Wait until all processes are here. Raises InputError that names what they were `doing` if one has stopped."""
    _together(doing, lambda group: distributed.monitored_barrier(group, PATIENCE, wait_all_ranks=True))


def told(value: T) -> T:
    """The main process's value, in every process: what each works out for itself may differ by a rounding or a machine."""
    values: list[Any] = [value]
    _together("agreeing", lambda group: distributed.broadcast_object_list(values, src=0, group=group))
    return values[0]


def gathered(value: T) -> list[T]:
    """The values of all processes, in every process."""
    values: list[Any] = [value] * processes().num_processes
    _together("gathering", lambda group: distributed.all_gather_object(values, value, group=group))
    return values


def _together(doing: str, talk: Any) -> None:
    if processes().num_processes == 1:
        return
    try:
        talk(_group())
    except RuntimeError as error:
        raise InputError(
            f"another process has stopped, or did not arrive within {PATIENCE}, while they were {doing}: see its output; start "
            f"the same command again to resume the run ({str(error).splitlines()[0]})"
        ) from error


@functools.cache
def _group() -> Any:
    """All processes over gloo, which names who is missing: on GPUs NCCL would end the process after ten minutes."""
    return distributed.new_group(backend="gloo", timeout=PATIENCE)
