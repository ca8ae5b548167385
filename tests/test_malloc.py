"""Freed memory is taken again without the kernel clearing it."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

COUNT_FAULTS = """
import resource
import torch
from srlvae.malloc import keep_freed_memory
{call}
net = torch.nn.Sequential(*[torch.nn.Conv2d(16, 16, 3, padding=1) for _ in range(4)])
def step():
    x = torch.rand(3, 16, 256, 256, requires_grad=True)
    torch.autograd.grad(net(x).sigmoid().sum(), x)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
step()
before = step()
for _ in range(5):
    after = step()
print(after - before)
"""


def page_faults(call: str) -> int:
    found = subprocess.run([sys.executable, "-c", COUNT_FAULTS.format(call=call)], capture_output=True, text=True, check=True)
    return int(found.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told to keep what is freed")
def test_a_step_takes_the_memory_of_the_one_before():
    # Feature maps of 12 MiB, batches of which glibc maps and unmaps; less than half leaves room for its placing of blocks.
    assert page_faults("keep_freed_memory()") < page_faults("") / 2
