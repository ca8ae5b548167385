"""Loading pipelines from a folder, from the hub, or from the bundled models."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from srlvae.errors import InputError
from srlvae.extras import need
from srlvae.models.pipeline import Pipeline, library
from srlvae.models.vae import VAE, load_vae
from srlvae.zoo import bundled

# What diffusers calls a file of LoRA's weights.
LORA = "pytorch_lora_weights.safetensors"


def load_pipeline(source: str | Path, vae: VAE | str | Path | None = None, device: torch.device | str = "cpu") -> Pipeline:
    """Load a pipeline from a folder, a hub id, or the name of a bundled model; frozen, in float32.

    With `vae`, that VAE takes the place of the pipeline's own. It is a `VAE`, or anything that `load_vae` takes.

    Raises InputError that says what is missing or why the source was refused.
    """
    need("pipeline", "transformers")
    folder = bundled(str(source)) or Path(source)
    local = folder.is_dir()
    if local and (folder / LORA).is_file():
        raise InputError(f"{folder} holds LoRA's weights alone; load them in Python: pipeline.load_lora_weights(...)")
    if local and not (folder / "model_index.json").is_file():
        raise InputError(f"{folder} has no model_index.json; give the folder of a diffusers pipeline")
    if not local and (str(source).count("/") != 1 or str(source).startswith((".", "/"))):
        raise InputError(f"{source} is no folder, hub id or bundled pipeline")
    try:
        pipe = library.AutoPipelineForText2Image.from_pretrained(str(folder) if local else str(source), local_files_only=local)
    except Exception as error:  # diffusers, transformers, safetensors and the hub each raise their own kinds
        raise InputError(f"cannot load a pipeline from {source}: {error}") from error
    pipe.to(device, torch.float32)
    for part in pipe.components.values():
        if isinstance(part, nn.Module):
            part.eval().requires_grad_(False)
    found = Pipeline(pipe)
    if vae is None:
        return found
    return found.with_vae(vae if isinstance(vae, VAE) else load_vae(vae, device))
