"""Versions of one model's weights in a folder of diffusers: full precision, fp16 and so on, each under its own name."""

from __future__ import annotations

import re
from pathlib import Path

from srlvae.errors import InputError

# diffusers' name of a model's weights.
WEIGHTS_NAME = "diffusion_pytorch_model"
# Tried on the hub where a repository has no weights in full precision.
VARIANTS = ("fp16", "bf16")
# What a variant may be called.
VARIANT = r"[a-zA-Z]\w*"
# A variant stands before or behind the number of a shard, by the version of diffusers that wrote it.
_NAME = re.compile(rf"\w+(-\d+-of-\d+)?(\.(?P<variant>{VARIANT}))?(-\d+-of-\d+)?\.(safetensors|bin)")
# Those of transformers go by other names, in the folders of text encoders.
_MODELS = (WEIGHTS_NAME, "model", "pytorch_model")


def variants(folder: Path) -> set[str | None]:
    """The variants of the weights in `folder`; None is that without a name."""
    matches = (_NAME.fullmatch(path.name) for path in folder.iterdir() if path.name.startswith(_MODELS))
    return {found["variant"] for found in matches if found}


def pick_variant(folder: Path, wanted: str | None) -> str | None:
    """The variant to load: `wanted`, or the one without a name, or the only one.

    Raises InputError where that is not there, or where it would have to be guessed.
    """
    found = variants(folder)
    named = sorted(name for name in found if name)
    if wanted and wanted not in found:
        raise InputError(
            f"{folder} has no weights of the variant {wanted}; there are: {', '.join(named) or 'none with a name'}"
        )
    if wanted or None in found or not found:
        return wanted
    if len(named) > 1:
        raise InputError(f"{folder} has several variants: {', '.join(named)}; write the one behind it, such as :{named[0]}")
    return named[0]
