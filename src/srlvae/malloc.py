"""Memory that stays with the process between steps."""

from __future__ import annotations

import ctypes
import functools
import platform

# Numbers of glibc's malloc.h.
TRIM_THRESHOLD, MMAP_MAX = -1, -4


@functools.cache
def keep_freed_memory() -> None:
    """Have glibc keep what is freed, in all of the process; does nothing with another C library.

    By default it gives blocks of more than 32 MB, such as the feature maps of a few images, back to the kernel at once, which
    clears every page of the next one, in every step.
    """
    if platform.libc_ver()[0] == "glibc":
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(MMAP_MAX, 0)
        mallopt(TRIM_THRESHOLD, 2**31 - 1)
