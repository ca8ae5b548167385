"""Loading pipelines from a folder, a single file, the hub, or the bundled models."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn

from srlvae.errors import InputError
from srlvae.extras import need
from srlvae.models.hub import fetch, online, unreachable
from srlvae.models.lazy import library
from srlvae.models.pairs import unlike
from srlvae.models.pipeline import Pipeline
from srlvae.models.sources import WEIGHTS, Source, parse
from srlvae.models.vae import VAE, checked, load_vae, warn_of_open_variance
from srlvae.models.variants import VARIANTS, pick_variant, variants
from srlvae.trust.budget import Budget, weights_size
from srlvae.trust.folders import INDEX, check_index, check_pipeline
from srlvae.zoo import bundled

# What diffusers calls a file of LoRA's weights.
LORA = "pytorch_lora_weights.safetensors"


def load_pipeline(source: str | Path, vae: VAE | str | Path | None = None, device: torch.device | str = "cpu") -> Pipeline:
    """Load a pipeline from a folder, a checkpoint in a single file, a hub id, or the name of a bundled model.

    The pipeline is frozen and in float32. With `vae`, that VAE takes the place of the pipeline's own. It is a `VAE`, or
    anything that `load_vae` takes. `srlvae.models.sources` says how variants and revisions are written.

    Raises InputError that says what is missing or why the source was refused.
    """
    need("pipeline", "transformers")
    place = parse(bundled(str(source)) or source, "pipeline")
    try:
        pipe = _from_hub(place) if place.path is None else _from_path(place.path, place.word)
    except InputError:
        raise
    except Exception as error:  # diffusers, transformers, safetensors and the hub each raise their own kinds
        raise InputError(f"cannot load a pipeline from {source}: {error}") from error
    pipe.to(device, torch.float32)
    for name, part in pipe.components.items():
        if isinstance(part, nn.Module):
            checked(part, f"{source}: {name}").eval().requires_grad_(False)
    found = Pipeline(pipe)
    if vae is None:
        if place.path:
            warn_of_open_variance(found.vae, place.path)
        return found
    changed = found.with_vae(vae if isinstance(vae, VAE) else load_vae(vae, device))
    for doubt in unlike(found.vae, changed.vae):
        warnings.warn(f"{doubt}: the pipeline does not understand those of the VAE in its place", stacklevel=2)
    return changed


def _from_path(path: Path, word: str | None) -> Any:
    if path.is_file():
        return _from_file(path)
    if (path / LORA).is_file():
        raise InputError(f"{path} holds only LoRA weights; load them in Python: pipeline.load_lora_weights(...)")
    if not (path / INDEX).is_file():
        if (path / "config.json").is_file():
            raise InputError(f"{path} is a single model; give the folder of a diffusers pipeline, and a VAE as --vae")
        raise InputError(f"{path} has no {INDEX}; give the folder of a diffusers pipeline")
    return _from_folder(path, word)


def _from_folder(folder: Path, word: str | None) -> Any:
    check_pipeline(folder)
    unet = folder / "unet"
    variant = pick_variant(unet, word) if unet.is_dir() else word
    if variant and (folder / "vae").is_dir() and {None, variant} <= variants(folder / "vae"):
        warnings.warn(
            f"{folder / 'vae'} has weights with and without the variant {variant}: those of the variant are loaded. "
            f"A hardened VAE goes there with: srlvae export VAE --to diffusers --variant {variant} --out FOLDER",
            stacklevel=4,
        )
    with Budget(weights_size(folder), folder):
        return library.AutoPipelineForText2Image.from_pretrained(str(folder), variant=variant, local_files_only=True)


def _from_file(path: Path) -> Any:
    """A whole checkpoint. It is weights alone: tokenizer and configuration come from the folder that it lies in, or the hub."""
    if path.suffix not in WEIGHTS:
        raise InputError(f"{path} is neither a folder nor a file of weights ({', '.join(WEIGHTS)})")
    folder = next((place for place in (path.parent, path.with_suffix("")) if (place / INDEX).is_file()), None)
    if folder is None and not online():
        raise InputError(
            f"{path} has neither tokenizer nor configuration, and there is no network to get them: put it into the folder of a "
            f"diffusers pipeline of its kind, beside {INDEX} (weights need not be there)"
        )
    kind = check_pipeline(folder) if folder else "StableDiffusionPipeline"
    given = {"config": str(folder), "local_files_only": True} if folder else {}
    with Budget(weights_size(path) + (weights_size(folder) if folder else 0), path):
        return getattr(library, kind).from_single_file(str(path), **given)


def _from_hub(source: Source) -> Any:
    """From the hub, or without a network from its cache."""
    offline = not online()
    if Path(source.inside).suffix in WEIGHTS:
        path = fetch(source, source.inside, offline=offline)
        if path is None:
            raise unreachable(source, source.inside) if offline else InputError(f"{source.repository} has no {source.inside}")
        return _from_file(path)
    if source.inside:
        raise InputError(f"give the repository of a pipeline, {source.repository}, not a folder in it ({source.inside})")
    index = fetch(source, INDEX, offline=offline)
    if index is None and offline:
        raise unreachable(source, INDEX)
    if index is None:
        raise InputError(f"{source.repository} has no {INDEX}, so it is not a pipeline in diffusers' format")
    check_index(index)
    if not offline:
        _download(source, index.parent)
    pipe = _from_folder(index.parent, source.word)
    pipe.register_to_config(_name_or_path=source.repository)
    return pipe


def _download(source: Source, folder: Path) -> None:
    """Get a pipeline's files into its `folder` of the cache. Many repositories have weights in half precision alone."""
    for variant in (source.word,) if source.word else (None, *VARIANTS):
        library.DiffusionPipeline.download(source.repository, revision=source.revision, variant=variant)
        if (folder / "unet").is_dir() and variants(folder / "unet"):
            return
