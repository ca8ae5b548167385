"""Freed memory is taken again without the kernel clearing it."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

COUNT_FAULTS = """
import resource
import torch
from srlvae.allocator import keep_freed_memory
{call}
torch.zeros(40 * 2**18)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    torch.zeros(40 * 2**18)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(call: str) -> int:
    found = subprocess.run([sys.executable, "-c", COUNT_FAULTS.format(call=call)], capture_output=True, text=True, check=True)
    return int(found.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told to keep what is freed")
def test_blocks_of_40_megabytes_are_not_cleared_again():
    # 5 blocks are 51,200 pages of 4 KiB, or 100 of 2 MiB where the kernel gives huge ones.
    assert page_faults("keep_freed_memory()") < 20 < page_faults("")
