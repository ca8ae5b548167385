"""Encoder files: what hardening makes, without the model that it was made from.

An encoder file is a safetensors file with the tensors of the tuned encoder alone. Its metadata names the base that it belongs
to, by a fingerprint, and says how it was made. It is put onto a copy of that base and onto no other.
"""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from srlvae.errors import InputError
from srlvae.files import write_atomically
from srlvae.models.autoencoder import VAE
from srlvae.provenance import environment, fingerprint
from srlvae.zoo import encoder_file

NAME = "encoder.safetensors"
KEY = "srlvae"


@dataclass(frozen=True)
class Encoder:
    """The tensors of an encoder file, under their names in the base, and the facts in its metadata; see `write_encoder`."""

    tensors: dict[str, Tensor]
    facts: dict[str, Any]


def base_fingerprint(model: nn.Module) -> str:
    """The fingerprint of weights rounded to bfloat16. A base in float32 and its copy in bfloat16 have the same one."""
    return fingerprint(model, rounded=torch.bfloat16)


def write_encoder(
    path: Path,
    hardened: VAE,
    original: VAE,
    facts: dict[str, Any],
    dtype: torch.dtype = torch.float32,
    source: dict[str, str] | None = None,
) -> None:
    """Write the encoder of `hardened`, which was made from `original`, to the encoder file `path`.

    `facts` is plain data on how it was made. It is kept in the metadata beside the base's class, channels and fingerprint.
    `source` says where the base is published, for example its hub id under `hub`, and its licence.
    """
    names = tuple(f"{name}." for name in hardened.encoder_modules())
    state = hardened.model.state_dict()
    tensors = {key: value.detach().cpu().to(dtype).contiguous() for key, value in state.items() if key.startswith(names)}
    base = {
        "class": type(original.model).__name__,
        "channels": original.channels,
        "fingerprint": base_fingerprint(original.model),
        **(source or {}),
    }
    about = {"base": base, "dtype": str(dtype).removeprefix("torch."), "versions": environment(), **facts}
    write_atomically(path, lambda file: save_file(tensors, file, {"format": "pt", KEY: json.dumps(about)}))


def read_encoder(source: str | Path) -> Encoder:
    """Read an encoder file. `source` is the file, a folder that `srlvae harden` wrote, or the name of a bundled encoder.

    Raises InputError for anything else.
    """
    path = Path(source)
    path = path / NAME if path.is_dir() else path if path.exists() else encoder_file(str(source)) or path
    if not path.is_file():
        raise InputError(f"{source} is not an encoder file; give one, a folder that `srlvae harden` wrote, or a bundled name")
    try:
        with safe_open(path, "pt") as file:
            facts = json.loads((file.metadata() or {}).get(KEY) or "")
            tensors = {key: file.get_tensor(key) for key in file.keys()}
        if not isinstance(facts, dict) or not {"class", "channels", "fingerprint"} <= facts.get("base", {}).keys():
            raise ValueError("its metadata names no base")
        if not all(isinstance(facts["base"].get(key, ""), str) for key in ("class", "fingerprint", "hub")):
            raise ValueError("the base that its metadata names is not text")
        return Encoder(tensors, facts)
    except (SafetensorError, OSError, MemoryError, ValueError, AttributeError, RecursionError) as error:
        raise InputError(f"{path} is not an encoder file of srlvae: it does not say what it belongs to ({error})") from error


def apply_encoder(encoder: Encoder | str | Path, base: VAE) -> VAE:
    """A copy of `base` with the hardened encoder, which is an `Encoder` or anything that `read_encoder` takes.

    Raises InputError if the encoder was made from another base or is damaged.
    """
    encoder = read_encoder(encoder) if isinstance(encoder, str | Path) else encoder
    vae = VAE(copy.deepcopy(base.model))
    wanted, found = encoder.facts["base"], base_fingerprint(vae.model)
    if found != wanted["fingerprint"]:
        named = f"; it was made from {wanted['hub']}" if wanted.get("hub") else ""
        raise InputError(
            f"this encoder belongs to another base: to an {wanted['class']} of {wanted['channels']} channels with the "
            f"fingerprint {wanted['fingerprint'][:12]}…, not {found[:12]}…{named}. Copies in float32 and bfloat16 are the same "
            "base, one in float16 is not"
        )
    names = tuple(f"{name}." for name in vae.encoder_modules())
    shapes = {key: value.shape for key, value in vae.model.state_dict().items() if key.startswith(names)}
    if {key: value.shape for key, value in encoder.tensors.items()} != shapes:
        raise InputError("the encoder file has other tensors than the base's encoder, so it is damaged or has been changed")
    if not all(value.is_floating_point() and value.float().isfinite().all() for value in encoder.tensors.values()):
        raise InputError("the encoder file has weights that are not finite, so it is damaged")
    vae.model.load_state_dict({key: value.to(vae.dtype) for key, value in encoder.tensors.items()}, strict=False)
    return vae
