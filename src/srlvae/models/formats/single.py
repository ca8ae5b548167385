"""A model of diffusers from a single file, whose kind is found by the names and shapes of its tensors alone."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import torch
from torch import nn

from srlvae.errors import InputError
from srlvae.files import read_record
from srlvae.models.formats.layouts import State, from_ldm, from_wan, is_ldm, is_wan, modern
from srlvae.models.formats.scaling import scaling
from srlvae.models.formats.shapes import GROUPS, kl_config, kl_shape, tiny_config, wan_config
from srlvae.models.formats.stored import Stored, open_stored
from srlvae.models.formats.taesd import HALVES, find_halves, read_halves
from srlvae.models.lazy import library
from srlvae.models.sources import WEIGHTS
from srlvae.trust.budget import Budget
from srlvae.trust.folders import AUTOENCODER, check_class
from srlvae.words import shortened

# Metadata of a safetensors file: the configuration of the model in it, as `srlvae export` writes it.
CONFIG = "srlvae.config"
# By one of these every autoencoder of diffusers and LDM is known, whatever its file puts before the names.
_FIRST = ("encoder.conv_in.weight", "encoder.conv_in.conv.weight", "encoder.layers.0.weight", "encoder.conv1.weight")


def load_file(path: Path, word: str | None, dtype: torch.dtype) -> Any:
    """The autoencoder in a file of weights, or in a pair of TAESD's files of which `path` is one.

    word: the model whose latents it makes, where the file does not say so; see `scaling`.
    Raises InputError for what is no autoencoder, or no whole one.
    """
    try:
        return _load_file(open_stored(path), word, dtype)
    except InputError:
        raise
    except KeyError as error:
        raise InputError(f"{path}: weights are missing, such as {error}; a whole autoencoder is needed") from error
    except Exception as error:  # whatever names and shapes that nobody thought of make a conversion raise
        reason = f"{type(error).__name__}: {error}"
        raise InputError(f"{path} holds no autoencoder whose names and shapes fit together ({reason})") from error


def _load_file(stored: Stored, word: str | None, dtype: torch.dtype) -> Any:
    path = stored.path
    if "srlvae" in stored.metadata:
        raise InputError(f"{path} is an encoder alone; put it onto its base: srlvae apply {path} --to VAE --out FOLDER")
    halves = find_halves(stored)
    if halves and word:
        raise InputError(f"{path}: TAESD's latents are not scaled; leave out :{word}")
    if halves:
        state = read_halves(stored, halves)
        return build(state, {**(_written(stored) or {}), **tiny_config(state)}, dtype, path)
    state = modern(_converted(stored.take(_prefix(stored))))
    return build(state, _config(stored, state, word), dtype, path)


def build(state: State, config: dict[str, Any], dtype: torch.dtype, path: Path) -> Any:
    """A model of this configuration with these weights, every one of which is given and used. Raises InputError else."""
    kind: Any = getattr(library, check_class(config.get("_class_name"), AUTOENCODER, path), None)
    if kind is None:
        raise InputError(f"{path}: diffusers {library.__version__} has no class {config['_class_name']}")
    try:
        # Of a tensor that repeats one number, what it takes and not what it looks like.
        with Budget(sum(min(tensor.nbytes, tensor.untyped_storage().nbytes()) for tensor in state.values()), path):
            model = kind.from_config({key: value for key, value in config.items() if key != "_name_or_path"})
        found = model.load_state_dict(state, strict=False)
    except InputError:
        raise
    except Exception as error:  # whatever a configuration makes a constructor raise
        raise InputError(f"{path} does not fit {config['_class_name']}: {error}") from error
    for what, names in (("missing", found.missing_keys), ("not known", found.unexpected_keys)):
        if names:
            raise InputError(
                f"{path} does not fit {config['_class_name']}: weights are {what}, {', '.join(names[:3])} and so on"
            )
    return nn.Module.to(model, dtype)


def _prefix(stored: Stored) -> str:
    """What stands before the autoencoder's names: nothing, or `first_stage_model.` and the like in a whole checkpoint."""
    ends = tuple(name for name in stored.names if name.endswith(_FIRST))
    found = {re.sub(rf"({'|'.join(map(re.escape, _FIRST))})$", "", name) for name in ends}
    found = {prefix for prefix in found if not prefix or prefix.endswith(".")}
    if not found:
        some = ", ".join(sorted(stored.names)[:3]) or "none"
        raise InputError(
            f"{stored.path} holds no autoencoder in a layout that is known here (diffusers, LDM, TAESD or Wan): its tensors "
            f"are called {some} and so on"
        )
    if len(found) > 1:
        raise InputError(f"{stored.path} holds several autoencoders: below {', '.join(sorted(found))}; take one out of it")
    return found.pop()


def _converted(state: State) -> State:
    """The tensors under diffusers' names."""
    if is_ldm(state):
        return from_ldm(state)
    return from_wan(state) if is_wan(state) else state


def _config(stored: Stored, state: State, word: str | None) -> dict[str, Any]:
    """The configuration that the file itself or a config.json beside it has, or what the tensors' shapes say."""
    given = _written(stored) or _beside(stored.path)
    kind = given.get("_class_name") if given else None
    if given and kind not in ("AutoencoderKL", "AutoencoderTiny"):
        return given
    if "encoder.layers.0.weight" in state:
        return {**(given if given and kind == "AutoencoderTiny" else {}), **tiny_config(state)}
    if "encoder.norm_out.gamma" in state:
        return wan_config(state)
    given = given if kind == "AutoencoderKL" else None
    widths, channels = kl_shape(state)
    # A config.json may belong to another file of the same folder.
    if given and (given.get("block_out_channels"), given.get("latent_channels")) == (widths, channels):
        found = {**given, **kl_config(state, given.get("norm_num_groups", GROUPS))}
        # What a file was written with is its own; what lies beside it may be another's.
        return found if CONFIG in stored.metadata and not word else {**found, **scaling(stored, channels, word, given)}
    return {**kl_config(state), **scaling(stored, channels, word)}


def _written(stored: Stored) -> dict[str, Any] | None:
    """The configuration in the file's own metadata. Raises InputError where that is none."""
    try:
        found = json.loads(stored.metadata.get(CONFIG, "null"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{stored.path}: the configuration in its metadata is not JSON ({error})") from error
    if found is not None and not isinstance(found, dict):
        raise InputError(f"{stored.path}: the configuration in its metadata is {shortened(found)}")
    return found


def _beside(path: Path) -> dict[str, Any] | None:
    """The config.json in the file's folder, if it is one of an autoencoder."""
    try:
        found = read_record(path.parent / "config.json")
    except InputError:
        return None
    return found if AUTOENCODER.fullmatch(str(found.get("_class_name"))) else None


def single_files(folder: Path) -> list[str]:
    """The files of weights in a folder that could be given by themselves."""
    return sorted(path.name for path in folder.iterdir() if path.suffix in WEIGHTS and path.is_file())


def pair_in(folder: Path) -> Path | None:
    """The encoder's file of the one TAESD pair in a folder without other weights."""
    names = single_files(folder)
    if len(names) != len(HALVES) or any(half not in " ".join(names) for half in HALVES):
        return None
    return folder / next(name for name in names if HALVES[0] in name)
