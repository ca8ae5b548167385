"""Loading autoencoders from a folder, a pipeline's folder, the hub, or the bundled models."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers.models.auto_model import AutoModel
from diffusers.models.modeling_utils import ModelMixin
from torch import nn

from srlvae.errors import InputError
from srlvae.models.autoencoder import VAE, Latents
from srlvae.models.encoders import apply_encoder, read_encoder
from srlvae.models.posterior import variance_is_held
from srlvae.zoo import bundled, encoder_file

# What hardening leaves in a folder.
RECORD = "srlvae.json"
__all__ = ["VAE", "Latents", "load_vae"]


def load_vae(source: str | Path, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> VAE:
    """Load a VAE from a folder, a pipeline's folder, a hub id, or the name of a bundled model; frozen, in evaluation mode.

    Warns of a VAE that was hardened without holding its variance. Raises InputError that says what is missing or why the
    weights were refused.
    """
    if encoder_file(str(source)) and not Path(source).is_dir():
        return _load_encoder(str(source), device, dtype)
    folder = bundled(str(source)) or Path(source)
    if folder.is_dir():
        model = _load(str(_vae_folder(folder)), dtype, local_files_only=True)
    elif folder.exists() or str(source).count("/") != 1 or str(source).startswith((".", "/")):
        raise InputError(f"{source} is no folder, hub id or bundled VAE")
    else:
        model = _load_from_hub(str(source), dtype)
    nn.Module.to(model, device)
    vae = VAE(model.eval().requires_grad_(False))
    if (folder / RECORD).is_file() and not variance_is_held(vae):
        warnings.warn(
            f"{source} was hardened with an open variance: an attack on its posterior drowns what is drawn from it in noise. "
            "Harden the original anew, with the objective srl.",
            stacklevel=2,
        )
    return vae


def _load_encoder(name: str, device: torch.device | str, dtype: torch.dtype) -> VAE:
    """A bundled encoder on its base, which comes from the hub or its cache."""
    encoder = read_encoder(name)
    try:
        base = load_vae(encoder.facts["base"]["hub"])
    except InputError as error:
        raise InputError(f"{name} needs its base: {error}; with a local copy of it: srlvae apply {name} --to FOLDER") from error
    vae = apply_encoder(encoder, base)
    nn.Module.to(vae.model, device, dtype)
    return vae


def _vae_folder(folder: Path) -> Path:
    """`folder`, or its `vae/` if it is a pipeline's; checked to hold a config and weights."""
    if (folder / "model_index.json").is_file():
        folder = folder / "vae"
    config = folder / "config.json"
    if not config.is_file():
        raise InputError(f"{folder} has no config.json; give the folder of a diffusers autoencoder or pipeline")
    try:
        name = json.loads(config.read_text(encoding="utf-8")).get("_class_name")
    except (ValueError, AttributeError) as error:
        raise InputError(f"{config} is not a JSON object ({error})") from error
    if not name:
        raise InputError(f"{config} names no class (`_class_name`), so it is no diffusers model")
    weights = [*folder.glob("*.safetensors"), *folder.glob("*.bin")]
    if not weights:
        raise InputError(f"{folder} has no weights; expected diffusion_pytorch_model.safetensors beside config.json")
    return folder


def _load(source: str, dtype: torch.dtype, **options: Any) -> Any:
    try:
        config: Any = AutoModel.load_config(source, **options)
        loaded = getattr(diffusers, config["_class_name"]).from_pretrained(
            source, torch_dtype=dtype, low_cpu_mem_usage=False, output_loading_info=True, **options
        )
    except Exception as error:  # diffusers, safetensors and torch each raise their own kinds
        raise InputError(f"cannot load a VAE from {source}: {error}") from error
    model, info = loaded
    if info["missing_keys"]:
        raise InputError(f"{source}: weights are missing, {', '.join(info['missing_keys'][:3])} and so on")
    broken = [name for name, weight in model.state_dict().items() if not weight.isfinite().all()]
    if broken:
        raise InputError(f"{source}: weights are not finite, {', '.join(broken[:3])} and so on")
    return model


def _load_from_hub(name: str, dtype: torch.dtype) -> ModelMixin:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    try:
        hf_hub_download(name, "model_index.json")
    except EntryNotFoundError:
        return _load(name, dtype)
    except Exception as error:
        raise InputError(f"cannot reach {name} on the hub, and it is no folder or bundled VAE ({error})") from error
    return _load(name, dtype, subfolder="vae")
