"""Loading the models that purifiers need beside a VAE or a pipeline like Stable Diffusion's."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from srlvae.errors import InputError
from srlvae.models.lazy import library
from srlvae.provenance import fingerprint
from srlvae.purify.remover import load_remover
from srlvae.trust.budget import Budget, weights_size
from srlvae.trust.folders import check_pipeline
from srlvae.trust.ids import check_id

# What `Purifier.needs` stands for.
KINDS = {
    "pixel": "DDPMPipeline",
    "upscaler": "StableDiffusionUpscalePipeline",
    "pixel-upscaler": "IFImg2ImgSuperResolutionPipeline",
}


def load_model(needs: str, source: str, device: torch.device | str = "cpu") -> Any:
    """Load what a purifier needs, frozen: a pipeline of diffusers from a folder or a hub id, or a remover from its file.

    Raises InputError if it cannot be loaded, or if its folder asks for more than known parts; see `trust.folders`.
    """
    if needs == "remover":
        return load_remover(source, device)
    kind: Any = getattr(library, KINDS[needs])
    try:
        folder = Path(source) if Path(source).is_dir() else Path(kind.download(check_id(source, KINDS[needs])))
        check_pipeline(folder)
        with Budget(weights_size(folder), folder):
            pipe = kind.from_pretrained(str(folder), local_files_only=True)
    except InputError:
        raise
    except Exception as error:  # diffusers, transformers and the hub each raise their own kinds
        raise InputError(f"cannot load a {KINDS[needs]} from {source!r}: {error}") from error
    for part in pipe.components.values():
        if isinstance(part, nn.Module):
            part.eval().requires_grad_(False)
    return pipe.to(device)


def identity(model: Any) -> str:
    """What tells a loaded model from others, wherever it lies: the SHA-256 of its weights and of its schedulers' settings."""
    if isinstance(model, nn.Module):
        return fingerprint(model)
    parts = [part for _, part in sorted(model.components.items())]
    weights = fingerprint(*(part for part in parts if isinstance(part, nn.Module)))
    schedulers = [part.config for part in parts if isinstance(part, library.SchedulerMixin)]
    settings = [{key: value for key, value in config.items() if key[0] != "_"} for config in schedulers]
    return hashlib.sha256(json.dumps([weights, settings], sort_keys=True, default=str).encode()).hexdigest()


def networks_of(model: Any) -> dict[str, nn.Module]:
    """The networks of a loaded model whose passes are counted, by name."""
    return {"remover": model} if isinstance(model, nn.Module) else {"pixel unet": model.unet}
