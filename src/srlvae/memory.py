"""How much memory is free, and numbers of bytes in words."""

from __future__ import annotations

import sys
from pathlib import Path

import psutil
import torch

_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
_USED = (Path("/sys/fs/cgroup/memory.current"), Path("/sys/fs/cgroup/memory/memory.usage_in_bytes"))


def free_memory(device: torch.device | None = None) -> int:
    """The bytes that are free on a device, or without one in main memory.

    Main memory is taken within the limits that a container and `ulimit -v` set. On a GPU, what PyTorch holds for later tensors
    counts as free.
    """
    kind = device.type if device else "cpu"
    if kind == "mps":
        return max(torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory(), 0)
    if kind in ("cuda", "xpu"):
        library = torch.get_device_module(kind)
        return library.mem_get_info(device)[0] + library.memory_reserved(device) - library.memory_allocated(device)
    return max(min(psutil.virtual_memory().available, *_limits()), 0)


def _limits() -> list[int]:
    """What is left to this process of each limit that is set, with a last one that never matters."""
    left = [sys.maxsize]
    for limit, used in zip(_LIMITS, _USED, strict=True):
        try:
            left.append(int(limit.read_text()) - int(used.read_text()) + _cached(used.with_name("memory.stat")))
        except (OSError, ValueError):  # no such limit, or `max`
            continue
    if sys.platform != "win32":
        import resource

        limit, _ = resource.getrlimit(resource.RLIMIT_AS)
        left += [limit - psutil.Process().memory_info().vms] if limit != resource.RLIM_INFINITY else []
    return left


def _cached(stat: Path) -> int:
    """The bytes that count as used, and that the kernel gives back when they are needed: copies of files."""
    lines = dict(line.split(" ", 1) for line in stat.read_text().splitlines()) if stat.is_file() else {}
    # Version 1 has a second count, which includes groups below.
    prefix = "total_" if "total_active_file" in lines else ""
    return sum(int(lines.get(f"{prefix}{kind}_file", 0)) for kind in ("active", "inactive"))


def gigabytes(count: int) -> str:
    """A number of bytes in words."""
    return f"{count / 1e9:.2g} GB" if count < 1e10 else f"{count / 1e9:.0f} GB"
