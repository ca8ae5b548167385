"""A learned remover: a small network that finds a perturbation in a picture, which is then subtracted.

After LightShed (Foerster et al., USENIX Security 2025). The network r minimises ‖r(x + δ) − δ‖² + ‖r(x)‖² over photographs x
and the perturbations δ of attacks on them; see `remover_training`. What it leaves says how much of an attack can be told from
the picture at all.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from srlvae.errors import InputError
from srlvae.files import write_atomically
from srlvae.images import Images
from srlvae.opened import check_file
from srlvae.purify.table import Purifier
from srlvae.rng import Generators

# What the metadata of a remover's file says that it is.
KIND = "srlvae-remover"


class Remover(nn.Module):
    """r: images `b 3 h w` in [0,1] to the perturbations in them. Before it is trained it finds none.

    Residual convolutions of `width` channels whose dilation doubles, `depth` of them, between two plain ones.
    """

    def __init__(self, width: int = 48, depth: int = 5):
        super().__init__()
        self.width, self.depth = width, depth
        self.enter = nn.Conv2d(3, width, 3, padding=1)
        self.blocks = nn.ModuleList(nn.Conv2d(width, width, 3, padding=2**i, dilation=2**i) for i in range(depth))
        self.leave = nn.Conv2d(width, 3, 3, padding=1)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.get_parameter("bias"))

    def forward(self, x: Images) -> Images:
        """The perturbation that is found in each image."""
        h = self.enter(x * 2 - 1)
        for block in self.blocks:
            h = h + block(nn.functional.silu(h))
        return self.leave(nn.functional.silu(h))


def save_remover(remover: Remover, path: Path) -> None:
    """Write a remover to a safetensors file."""
    about = {"kind": KIND, "shape": json.dumps({"width": remover.width, "depth": remover.depth})}
    tensors = {name: value.detach().contiguous().cpu() for name, value in remover.state_dict().items()}
    write_atomically(path, lambda file: save_file(tensors, file, about))


def load_remover(path: str | Path, device: torch.device | str = "cpu") -> Remover:
    """Load a remover from its file, frozen. Raises InputError if the file is none."""
    try:
        check_file(path)
        with safe_open(str(path), "pt") as file:
            about = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except (OSError, MemoryError, SafetensorError) as error:
        raise InputError(f"cannot read a remover from {path}: {error}") from error
    if about.get("kind") != KIND:
        raise InputError(f"{path} is not a remover; give a file that `save_remover` wrote")
    try:
        remover = Remover(**json.loads(about["shape"]))
        remover.load_state_dict(tensors)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{path} is a remover whose weights do not have the shape that it says: {error}") from error
    if not all(tensor.isfinite().all() for tensor in tensors.values()):
        raise InputError(f"{path} is a remover with weights that are not finite; train it again")
    return remover.eval().requires_grad_(False).to(device)


@torch.no_grad()
def remove(x: Images, *, generators: Generators, remover: Remover) -> Images:
    """Subtract what the remover finds: x − r(x), clamped."""
    return (x - remover(x)).clamp(0, 1)


LEARNED_REMOVER = Purifier(remove, "a learned remover, as LightShed, USENIX Security 2025", "remover")
