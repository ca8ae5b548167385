"""Checkpoints: one safetensors file, replaced atomically, from which a run continues bit by bit."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from srlvae.errors import InputError
from srlvae.files import write_atomically
from srlvae.links import check_within
from srlvae.opened import check_file
from srlvae.words import shortened


def save_checkpoint(
    path: Path,
    modules: dict[str, nn.Module],
    optimizer: torch.optim.Optimizer,
    progress: dict,
    more: dict[str, torch.Tensor] | None = None,
) -> None:
    """Write the weights of `modules`, the state of `optimizer`, `progress` (plain data) and the tensors `more` to `path`.

    The old file stays until the new one is complete.
    """
    tensors = {f"more/{key}": value for key, value in (more or {}).items()}
    tensors |= {f"{name}/{key}": value for name, module in modules.items() for key, value in module.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{index}/{key}": torch.as_tensor(value) for key, value in state.items()}
    tensors = {key: value.contiguous() for key, value in tensors.items()}
    write_atomically(path, lambda file: save_file(tensors, file, {"progress": json.dumps(progress)}))


def load_checkpoint(path: Path, modules: dict[str, nn.Module], optimizer: torch.optim.Optimizer | None) -> dict:
    """Restore what `save_checkpoint` wrote into `modules` and `optimizer`, and return its progress.

    Raises InputError for a file that is damaged, or is none of these modules.
    """
    with damage_to(path):
        return _load(path, modules, optimizer)


@contextlib.contextmanager
def damage_to(path: Path) -> Iterator[None]:
    """Make InputError, which says what to do, of whatever a checkpoint that is damaged or of another run makes others raise."""
    try:
        check_within(path)
        check_file(path)
        yield
    except InputError:  # it says so already
        raise
    except (SafetensorError, OSError, MemoryError, KeyError, TypeError, ValueError, RuntimeError) as error:
        # PyTorch lists every weight that does not fit.
        raise InputError(
            f"cannot resume from {path}: it is damaged, or belongs to another run ({shortened(str(error), 300)}); remove it to "
            "begin again from the first step, or give a new folder"
        ) from error


def _load(path: Path, modules: dict[str, nn.Module], optimizer: torch.optim.Optimizer | None) -> dict:
    with safe_open(path, "pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}
        progress = json.loads(file.metadata()["progress"])
    if not isinstance(progress, dict):
        raise ValueError("its progress is not a table")
    for name, module in modules.items():
        prefix = f"{name}/"
        module.load_state_dict({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
    if optimizer:
        state: dict[int, dict[str, torch.Tensor]] = {}
        for key, value in tensors.items():
            if key.startswith("optimizer/"):
                _, index, name = key.split("/")
                state.setdefault(int(index), {})[name] = value
        optimizer.load_state_dict(optimizer.state_dict() | {"state": state})
        for weight, parts in optimizer.state.items():
            # A number stands for a weight that is not there.
            size = weight.shape if torch.is_tensor(weight) else None
            if wrong := [name for name, value in parts.items() if value.ndim and value.shape != size]:
                raise ValueError(f"its {wrong[0]} is of another size than the weights")
            # Fused optimisers go through memory in the weight's order, which the file does not keep.
            parts |= {name: torch.empty_like(weight).copy_(value) for name, value in parts.items() if value.ndim}
    return progress


def load_more(path: Path) -> dict[str, torch.Tensor]:
    """The tensors that `save_checkpoint` was given besides the weights."""
    with damage_to(path), safe_open(path, "pt") as file:
        return {key.removeprefix("more/"): file.get_tensor(key) for key in file.keys() if key.startswith("more/")}
