"""How much memory work on networks needs, before it starts: tensors counted on their shapes, without computing."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from srlvae.images import image_size
from srlvae.models.pipeline import Pipeline


@dataclass(frozen=True)
class PeakMemory:
    """The bytes of an image-to-image attack with checkpointed steps, part by part."""

    weights: int
    encoder: int
    step: int
    decoder: int

    @property
    def total(self) -> int:
        """Bytes at the worst moment.

        The encoder's activations stay to the end. Those of the decoder and those of a step are never there together.
        """
        return self.weights + self.encoder + max(self.step, self.decoder)

    def __str__(self) -> str:
        parts = {"weights": self.weights, "encoder": self.encoder, "one denoising step": self.step, "decoder": self.decoder}
        return f"about {self.total / 1e9:.1f} GB at the peak ({', '.join(f'{k} {v / 1e9:.1f}' for k, v in parts.items())})"


def saved_bytes(run: Callable[[], Any]) -> int:
    """The bytes that `run` keeps for its backward pass: each storage counts once, and parameters do not count."""
    seen: dict[int, int] = {}
    kept: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        if not isinstance(tensor, torch.nn.Parameter):
            kept.append(tensor)  # so that no two storages share an address
            seen[tensor.untyped_storage()._cdata] = tensor.untyped_storage().nbytes()
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        run()
    return sum(seen.values())


class Held(TorchDispatchMode):
    """Counts the bytes of the tensors that operations within it make: `now`, and `peak` at the worst moment.

    Inside FakeTensorMode tensors have no values; to a question about one the answer is yes.
    """

    def __init__(self):
        super().__init__()
        self.now = self.peak = 0
        self.known: dict[int, weakref.ref[Any]] = {}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is torch.ops.aten._local_scalar_dense.default:
            return True
        found = function(*args, **(kwargs or {}))
        given = {tensor.untyped_storage()._cdata for tensor in tree_leaves((args, kwargs)) if isinstance(tensor, Tensor)}
        for tensor in tree_leaves(found):
            if isinstance(tensor, Tensor) and tensor.untyped_storage()._cdata not in given:
                self._add(tensor.untyped_storage())
        return found

    def _add(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self.known:
            return

        def freed(_: object) -> None:
            del self.known[key]
            self.now -= size

        self.known[key] = weakref.ref(storage, freed)
        self.now += size
        self.peak = max(self.peak, self.now)


def image_to_image_peak(pipeline: Pipeline, height: int, width: int, batch: int = 1) -> PeakMemory:
    """The peak of `image_to_image` and its backward pass on `batch` images, in the precision of the weights.

    `height` and `width` are in pixels.
    """
    h, w = height // pipeline.vae.factor, width // pipeline.vae.factor
    both = pipeline.condition([""] * 2 * batch, (height, width))
    parts = [part for part in pipeline.pipe.components.values() if isinstance(part, torch.nn.Module)]
    # Tensors that have a shape and no memory. Not the meta device: attention there keeps a matrix that real devices do not.
    with FakeTensorMode():
        vae, unet = shell(pipeline.vae.model), shell(pipeline.pipe.unet)
        x = torch.empty(batch, 3, height, width, dtype=vae.dtype, requires_grad=True)
        z = torch.empty(batch, pipeline.vae.channels, h, w, dtype=vae.dtype, requires_grad=True)
        twice = torch.empty(2 * batch, unet.config.in_channels, h, w, dtype=unet.dtype, requires_grad=True)
        embeds = torch.empty(both.embeds.shape, dtype=unet.dtype)
        added = {key: torch.empty(value.shape, dtype=value.dtype) for key, value in both.added.items()}
        t = torch.zeros(2 * batch, dtype=torch.long)
        return PeakMemory(
            weights=sum(p.numel() * p.element_size() for part in parts for p in part.parameters()),
            encoder=saved_bytes(lambda: vae.encode(x)),
            step=saved_bytes(lambda: unet(twice, t, embeds, added_cond_kwargs=added)),
            decoder=saved_bytes(lambda: vae.decode(z)),
        )


def announce_peak(pipeline: Pipeline, paths: list[Path], batch: int) -> list[str]:
    """Say in words how much memory an image of the largest size in `paths` takes, and how much a batch of them."""
    sizes = [size for path in paths if (size := image_size(path))]
    width, height = max(sizes, key=lambda size: size[0] * size[1], default=(pipeline.size, pipeline.size))
    counts = dict.fromkeys((1, min(batch, len(paths))))
    return [f"{n} of {width} x {height} pixels at once: {image_to_image_peak(pipeline, height, width, n)}" for n in counts]


def shell(model: Any) -> Any:
    """A network of the same configuration, frozen."""
    made = type(model).from_config(model.config).eval().requires_grad_(False)
    return made if model.dtype == torch.float32 else made.to(dtype=model.dtype)
