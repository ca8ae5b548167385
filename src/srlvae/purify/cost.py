"""What a purifier costs for each image: seconds, memory, and passes through networks, all of them measured."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from srlvae.images import Images


@dataclass(frozen=True)
class Cost:
    """What one image costs.

    `seconds` is wall-clock time. `memory` is in bytes: tensors at the worst moment, beyond those that were there before.
    `passes` has the number of forward passes through each network.
    """

    seconds: float
    memory: int
    passes: dict[str, float]


def measure_cost(
    run: Callable[[Images], Images], brief: Callable[[Images], Images], x: Images, networks: Mapping[str, nn.Module]
) -> tuple[Images, Cost]:
    """Run `run(x)` and measure what it costs for each image. Returns the images and the cost.

    `brief` is the same in fewer rounds; memory is measured in it, on the first image.
    """
    memory = peak_memory(lambda: brief(x[:1]), x.device)
    with counted_passes(networks) as passes:
        started = time.perf_counter()
        y = run(x)
        if x.is_cuda:
            torch.cuda.synchronize(x.device)
        seconds = time.perf_counter() - started
    return y, Cost(seconds / len(x), memory, {name: count / len(x) for name, count in passes.items()})


@contextmanager
def counted_passes(networks: Mapping[str, nn.Module]) -> Iterator[dict[str, int]]:
    """A context that counts the images that go through each network."""
    passes = dict.fromkeys(networks, 0)

    def counter(name: str) -> Callable[..., None]:
        def count(module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
            passes[name] += len(next(value for value in (*inputs, *named.values()) if isinstance(value, Tensor)))

        return count

    hooks = [network.register_forward_pre_hook(counter(name), with_kwargs=True) for name, network in networks.items()]
    try:
        yield passes
    finally:
        for hook in hooks:
            hook.remove()


def peak_memory(run: Callable[[], object], device: torch.device) -> int:
    """The bytes that PyTorch's allocator holds at the worst moment of `run`, beyond those that it held before."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        return torch.cuda.max_memory_allocated(device) - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        run()
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        recorded.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text(encoding="utf-8"))["traceEvents"]
    held = [event["args"] for event in events if event.get("name") == "[memory]"]
    start = held[0]["Total Allocated"] - held[0]["Bytes"] if held else 0
    return max((args["Total Allocated"] - start for args in held), default=0)
