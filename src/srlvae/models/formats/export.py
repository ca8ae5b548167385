"""Autoencoders as other programs read them: LDM's single file, TAESD's pair, or a folder of diffusers."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from srlvae.errors import InputError, unknown
from srlvae.files import write_atomically
from srlvae.locks import holds
from srlvae.models.autoencoder import VAE
from srlvae.models.formats.layouts import State, to_ldm, to_taesd
from srlvae.models.formats.single import CONFIG
from srlvae.models.formats.taesd import HALVES, PAIRS
from srlvae.models.variants import VARIANT
from srlvae.runs import check_free

LAYOUTS = ("ldm", "diffusers", "taesd")
# By the class of the model; of all others diffusers' own is the only one.
OWN = {"AutoencoderKL": "ldm", "AutoencoderTiny": "taesd"}
# What other programs build before they look into a file.
PUBLISHED: dict[str, dict[str, Any]] = {
    "ldm": {"block_out_channels": [128, 256, 512, 512], "layers_per_block": 2, "mid_block_add_attention": True},
    "taesd": {"encoder_block_out_channels": [64] * 4, "num_encoder_blocks": [1, 3, 3, 3], "num_decoder_blocks": [3, 3, 3, 1]},
}
DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}


def export(
    vae: VAE,
    to: str,
    out: Path,
    *,
    dtype: torch.dtype = torch.float32,
    variant: str | None = None,
    name: str | None = None,
) -> list[Path]:
    """Write `vae` in the layout `to` and return the files, which are new; the model stays as it is.

    to: `ldm`, with `out` a file `.safetensors`; `taesd`, with `out` the folder of the pair; or `diffusers`, with `out` a new
    folder. variant: for diffusers, a part of the weights' name, such as fp16. name: for TAESD, one of `PAIRS`; where none is
    given, `taesd` for latents of 4 channels and `taef1` for 16.
    Raises InputError for a class of model without such a layout, weights that `dtype` cannot hold, and files that are there.
    """
    if to not in LAYOUTS:
        raise unknown("no layout", to, LAYOUTS)
    if variant and to != "diffusers":
        raise InputError(f"a variant ({variant}) is only for --to diffusers, not for {to}; leave it out")
    if variant and not re.fullmatch(VARIANT, variant):
        raise InputError(f"a variant begins with a letter and has only letters, digits and _, such as fp16; got {variant!r}")
    if name and to != "taesd":
        raise InputError(f"a name ({name}) is only for --to taesd, not for {to}; leave it out")
    if to == "diffusers":
        return _export_folder(vae, out, dtype, variant)
    return _export_ldm(vae, out, dtype) if to == "ldm" else _export_taesd(vae, out, dtype, name)


def is_published(vae: VAE, to: str) -> bool:
    """Whether the model has the widths and numbers of layers of the published ones, which other programs have in their code."""
    config = json.loads(vae.model.to_json_string())
    return all(config.get(key) == value for key, value in PUBLISHED.get(to, {}).items())


@holds("out")
def _export_folder(vae: VAE, out: Path, dtype: torch.dtype, variant: str | None) -> list[Path]:
    check_free(out)
    _cast(vae.model.state_dict(), dtype)
    other = VAE(copy.deepcopy(vae.model))
    nn.Module.to(other.model, dtype)
    other.save(out, variant)
    return sorted(path for path in out.iterdir() if not path.name.startswith("."))


def _export_ldm(vae: VAE, out: Path, dtype: torch.dtype) -> list[Path]:
    _check_class(vae, "ldm", "AutoencoderKL")
    if out.suffix != ".safetensors":
        raise InputError(f"{out} is not a name for a file in LDM's layout; give one that ends with .safetensors")
    _write(out, to_ldm(_cast(vae.model.state_dict(), dtype)), vae)
    return [out]


@holds("out")
def _export_taesd(vae: VAE, out: Path, dtype: torch.dtype, name: str | None) -> list[Path]:
    _check_class(vae, "taesd", "AutoencoderTiny")
    fitting = [pair for pair, channels in PAIRS.items() if channels == vae.channels]
    # Of 16 channels FLUX's is the more common one.
    name = name or next(iter(fitting if vae.channels == 4 else reversed(fitting)), None)
    if name is None or name not in fitting:
        known = ", ".join(fitting) or "none"
        raise InputError(f"no pair of latents with {vae.channels} channels is called {name}; choose one of {known}")
    paths = [out / f"{name}_{half}.safetensors" for half in HALVES]
    for path in paths:
        _check_new(path)
    for path, state in zip(paths, to_taesd(_cast(vae.model.state_dict(), dtype)), strict=True):
        _write(path, state, vae)
    return paths


def _check_class(vae: VAE, to: str, kind: str) -> None:
    found = type(vae.model).__name__
    if found != kind:
        raise InputError(f"the layout {to} is for {kind}, but this is an {found}; use --to {OWN.get(found, 'diffusers')}")


def _check_new(path: Path) -> None:
    if path.exists():
        raise InputError(f"{path} exists already; give another --out")


def _cast(state: State, dtype: torch.dtype) -> State:
    found = {name: value.detach().cpu().to(dtype).contiguous() for name, value in state.items()}
    broken = [name for name, value in found.items() if not value.isfinite().all()]
    if broken:
        raise InputError(f"{dtype} cannot hold all weights, for example {broken[0]}; use bfloat16 or float32")
    return found


def _write(path: Path, state: State, vae: VAE) -> None:
    """Write a file whose metadata has the model's configuration: groups and scaling show in no tensor."""
    _check_new(path)
    config = {key: value for key, value in json.loads(vae.model.to_json_string()).items() if key != "_name_or_path"}
    metadata = {"format": "pt", CONFIG: json.dumps(config)}
    tensors = {name: value.contiguous() for name, value in state.items()}
    write_atomically(path, lambda file: save_file(tensors, file, metadata))
