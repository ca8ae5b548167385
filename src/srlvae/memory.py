"""How much memory is free, and numbers of bytes in words."""

from __future__ import annotations

from pathlib import Path

import psutil

_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
_USED = (Path("/sys/fs/cgroup/memory.current"), Path("/sys/fs/cgroup/memory/memory.usage_in_bytes"))


def free_memory() -> int:
    """The bytes that are free in main memory, within the limit that a container sets."""
    found = psutil.virtual_memory().available
    for limit, used in zip(_LIMITS, _USED, strict=True):
        try:
            found = min(found, int(limit.read_text()) - int(used.read_text()))
        except (OSError, ValueError):  # no such limit, or `max`
            continue
    return max(found, 0)


def gigabytes(count: int) -> str:
    """A number of bytes in words."""
    return f"{count / 1e9:.2g} GB" if count < 1e10 else f"{count / 1e9:.0f} GB"
