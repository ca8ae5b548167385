"""Whose latents a file makes. Factor and shift stand in no tensor: they are found by what else a file tells, or asked for."""

from __future__ import annotations

import logging
import re
from typing import Any

from srlvae.errors import InputError
from srlvae.models.formats.stored import Stored

# From the config.json of each model's own VAE.
FAMILIES: dict[str, dict[str, Any]] = {
    "sd": {"latent_channels": 4, "scaling_factor": 0.18215, "sample_size": 512},
    "sdxl": {"latent_channels": 4, "scaling_factor": 0.13025, "sample_size": 1024},
    "sd3": {"latent_channels": 16, "scaling_factor": 1.5305, "shift_factor": 0.0609, "sample_size": 1024},
    "flux": {"latent_channels": 16, "scaling_factor": 0.3611, "shift_factor": 0.1159, "sample_size": 1024},
}
# What diffusers takes where a configuration says nothing.
DEFAULT = FAMILIES["sd"]["scaling_factor"]
# Tensors that a whole checkpoint of each has beside its autoencoder.
_BESIDE = {"sdxl": "conditioner.embedders.", "sd3": ".joint_blocks.", "flux": ".double_blocks.", "sd": "cond_stage_model."}
# In the order of asking: how people name files, and what the metadata of safetensors calls an architecture.
_CALLED = {
    "sdxl": r"sdxl|(?<![a-z])xl|xl(?![a-z])",
    "sd3": r"sd-?3|stable-diffusion-?-?3",
    "flux": r"flux|^ae\.",
    "sd": r"ft-mse|ft-ema|840000|560000|kl-f8|v1-5|v2-1|sd-?v?[12]|stable-diffusion-v[12]",
}
# Of Playground v2.5, which is an SDXL with statistics of its own.
_PLAYGROUND = 0.5

logger = logging.getLogger(__name__)


def scaling(stored: Stored, channels: int, word: str | None, beside: dict[str, Any] | None = None) -> dict[str, Any]:
    """The settings of scaling, for a file whose latents have so many channels.

    word: the family where the user names it. beside: a fitting configuration that lies beside the file. Where the file says
    something else, the file is followed, with a warning; where nothing says anything, a warning names what is assumed.

    Raises InputError for a word that is no family, or one of another number of channels.
    """
    if word is None and {"edm_mean", "edm_std"} <= stored.names:
        return _playground(stored)
    fitting = [name for name, family in FAMILIES.items() if family["latent_channels"] == channels]
    if word is not None and word not in fitting:
        raise InputError(f"{stored.path}:{word} names no model with latents of {channels} channels; known: {_list(fitting)}")
    family = word or _told(stored, fitting)
    if beside is not None:
        return _over(stored, family, beside, told=word is None)
    return FAMILIES[family] if family else _assumed(stored, fitting, channels)


def _over(stored: Stored, family: str | None, beside: dict[str, Any], told: bool) -> dict[str, Any]:
    """The family that a file tells of, before what the configuration beside it says."""
    if family is None:
        return {}
    said, factor = beside.get("scaling_factor", DEFAULT), FAMILIES[family]["scaling_factor"]
    if told and said != factor:
        logger.warning(
            "%s seems to be for %s (factor %s), and the config.json beside it says %s; taking the former, otherwise write its "
            "family behind the file",
            *(stored.path, family, factor, said),
        )
    return FAMILIES[family]


def _assumed(stored: Stored, fitting: list[str], channels: int) -> dict[str, Any]:
    """What is taken where nothing says which model a file is for."""
    if not fitting:
        logger.warning(
            "%s: no model with latents of %d channels is known here; assuming the factor %s, otherwise put a config.json "
            "with its scaling_factor beside it",
            *(stored.path, channels, DEFAULT),
        )
        return {}
    # Stable Diffusion 1.x is what most files of 4 channels are for, FLUX what most of 16 are.
    family = "sd" if "sd" in fitting else "flux"
    others = _list(f"{stored.path.name}:{name}" for name in fitting if name != family)
    logger.warning(
        "%s does not say which model its latents are for; assuming %s, otherwise write %s", stored.path, family, others
    )
    return FAMILIES[family]


def _playground(stored: Stored) -> dict[str, Any]:
    mean, deviation = (stored.take(name)[""].flatten().tolist() for name in ("edm_mean", "edm_std"))
    return {"scaling_factor": _PLAYGROUND, "latents_mean": mean, "latents_std": deviation, "sample_size": 1024}


def _told(stored: Stored, fitting: list[str]) -> str | None:
    """The family that a whole checkpoint's other tensors name, or else the metadata, or else the name of the file."""
    possible = [family for family in _CALLED if family in fitting]
    for family in possible:
        if any(_BESIDE[family] in name for name in stored.names):
            return family
    said = stored.metadata.get("modelspec.architecture", ""), stored.path.name
    return next((family for text in said for family in possible if re.search(_CALLED[family], text.lower())), None)


def _list(names: Any) -> str:
    return ", ".join(names) or "none"
