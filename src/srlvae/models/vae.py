"""Loading autoencoders from a folder, a pipeline's folder, a single file, the hub, or the bundled models."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn

from srlvae.errors import InputError
from srlvae.files import read_record
from srlvae.models.autoencoder import VAE, Latents
from srlvae.models.encoders import apply_encoder, read_encoder
from srlvae.models.formats.single import load_file, pair_in, single_files
from srlvae.models.formats.taesd import HALVES
from srlvae.models.hub import fetch, fetch_folder, online, unreachable
from srlvae.models.lazy import library
from srlvae.models.posterior import variance_is_held
from srlvae.models.sources import WEIGHTS, Source, parse
from srlvae.models.variants import pick_variant
from srlvae.trust.budget import Budget, weights_size
from srlvae.trust.folders import AUTOENCODER, check_class, check_folder
from srlvae.trust.ids import HUB
from srlvae.zoo import bundled, encoder_file

# What hardening leaves in a folder.
RECORD = "srlvae.json"
__all__ = ["VAE", "Latents", "load_vae"]


def load_vae(source: str | Path, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> VAE:
    """Load a VAE from a folder, a pipeline's folder, a single file, a hub id, or the name of a bundled model.

    A single file is in the layout of diffusers, of LDM or of TAESD, or is a whole checkpoint with an autoencoder in it.
    `srlvae.models.sources` says how variants and revisions are written. The VAE is frozen and in evaluation mode.

    Warns of a VAE that was hardened without holding its variance. Raises InputError that says what is missing or why the
    weights were refused.
    """
    if encoder_file(str(source)) and not Path(source).is_dir():
        return _load_encoder(str(source), device, dtype)
    place = parse(bundled(str(source)) or source, "VAE")
    model = _load_from_hub(str(source), dtype) if place.path is None else _load_local(place.path, place.word, dtype)
    nn.Module.to(model, device)
    vae = VAE(model.eval().requires_grad_(False))
    if place.path:
        warn_of_open_variance(vae, place.path)
    return vae


def warn_of_open_variance(vae: VAE, path: Path) -> None:
    """Warn of a VAE from `path`, its own folder or a pipeline's, that was hardened without holding its variance."""
    if any((folder / RECORD).is_file() for folder in (path, path / "vae")) and not variance_is_held(vae):
        warnings.warn(
            f"{path} was hardened without holding its variance: an attack on the posterior turns what is "
            "drawn from it into noise. Harden the original again, with the objective srl.",
            stacklevel=3,
        )


def _load_encoder(name: str, device: torch.device | str, dtype: torch.dtype) -> VAE:
    """A bundled encoder on its base, which comes from the hub or its cache."""
    encoder = read_encoder(name)
    place = encoder.facts["base"]["hub"]
    try:
        base = load_vae(place if Path(place).exists() else HUB + place)
    except InputError as error:
        raise InputError(f"{name} needs its base: {error}; with a local copy of it: srlvae apply {name} --to FOLDER") from error
    vae = apply_encoder(encoder, base)
    nn.Module.to(vae.model, device, dtype)
    return vae


def _load_local(path: Path, word: str | None, dtype: torch.dtype) -> Any:
    if path.is_file():
        if path.suffix not in WEIGHTS:
            raise InputError(f"{path} is neither a folder nor a file of weights ({', '.join(WEIGHTS)})")
        return checked(load_file(path, word, dtype), path)
    if not (path / "config.json").is_file() and (pair := pair_in(path)):
        return checked(load_file(pair, word, dtype), pair)
    folder = _vae_folder(path)
    return _load(folder, dtype, variant=pick_variant(folder, word))


def _vae_folder(folder: Path) -> Path:
    """`folder`, or its `vae/` if it is a pipeline's; checked to hold a config and weights."""
    # A pipeline's folder, or of a pipeline nothing but its VAE.
    inside, config = folder / "vae", folder / "config.json"
    if (folder / "model_index.json").is_file() or ((inside / "config.json").is_file() and not config.is_file()):
        folder, config = inside, inside / "config.json"
    if not config.is_file():
        files = single_files(folder) if folder.is_dir() else []
        hint = (
            f"give one of its single files: {', '.join(files)}"
            if files
            else "give the folder of a diffusers autoencoder or pipeline"
        )
        raise InputError(f"{folder} has no config.json; {hint}")
    if not read_record(config).get("_class_name"):
        raise InputError(f"{config} names no class (`_class_name`), so it is not a diffusers model")
    weights = [*folder.glob("*.safetensors"), *folder.glob("*.bin")]
    if not weights:
        raise InputError(f"{folder} has no weights; expected diffusion_pytorch_model.safetensors beside config.json")
    return folder


def _load(source: Path, dtype: torch.dtype, variant: str | None) -> Any:
    check_folder(source)
    config = source / "config.json"
    kind = check_class(read_record(config).get("_class_name"), AUTOENCODER, config)
    try:
        with Budget(weights_size(source), source):
            loaded = getattr(library, kind).from_pretrained(
                str(source),
                variant=variant,
                # Where there are none, diffusers complains before it takes the others.
                use_safetensors=None if list(source.glob("*.safetensors")) else False,
                torch_dtype=dtype,
                low_cpu_mem_usage=False,
                output_loading_info=True,
                local_files_only=True,
            )
    except InputError:
        raise
    except Exception as error:  # diffusers, safetensors and torch each raise their own kinds
        raise InputError(f"cannot load a VAE from {source}: {error}") from error
    model, info = loaded
    if info["missing_keys"]:
        raise InputError(f"{source}: weights are missing, {', '.join(info['missing_keys'][:3])} and so on")
    return checked(model, source)


def checked(model: Any, source: str | Path) -> Any:
    """`model`. Raises InputError where weights are not finite."""
    broken = [name for name, weight in model.state_dict().items() if not weight.isfinite().all()]
    if broken:
        raise InputError(f"{source}: weights are not finite, {', '.join(broken[:3])} and so on")
    return model


def _load_from_hub(name: str, dtype: torch.dtype) -> Any:
    """From the hub, or without a network from its cache, where `vae/` of a pipeline alone is enough."""
    source = parse(name, "VAE")
    offline = not online()
    if Path(source.inside).suffix in WEIGHTS:
        return _load_hub_file(source, dtype, offline)
    folder, variant = fetch_folder(source, offline)
    model = _load(folder, dtype, variant=variant)
    model.register_to_config(_name_or_path=source.repository)
    return model


def _load_hub_file(source: Source, dtype: torch.dtype, offline: bool) -> Any:
    path = fetch(source, source.inside, offline=offline)
    for half, other in (HALVES, HALVES[::-1]):
        before, found, after = source.inside.rpartition(half)
        if found:  # one of TAESD's two files, which are read as a pair
            fetch(source, f"{before}{other}{after}", offline=offline)
    if path is None and offline:
        raise unreachable(source, source.inside)
    if path is None:
        raise InputError(f"{source.repository} has no file {source.inside}")
    model = checked(load_file(path, source.word, dtype), f"{source.repository}/{source.inside}")
    model.register_to_config(_name_or_path=source.repository)
    return model
