"""TAESD's own files: an encoder and a decoder, each a plain sequence of layers, in two files or in one."""

from __future__ import annotations

from pathlib import Path

from srlvae.errors import InputError
from srlvae.models.formats.layouts import State, from_taesd
from srlvae.models.formats.stored import Stored, open_stored
from srlvae.models.sources import WEIGHTS

HALVES = ("encoder", "decoder")
# Names that only this half has, numbered from its first layer: the decoder's is a clamp without weights.
_MARKS = {"encoder": ("0.weight", "1.conv.0.weight"), "decoder": ("1.weight", "3.conv.0.weight")}
# How both are called in one file: by ComfyUI, and by TAESD's own module.
_TOGETHER = (("taesd_encoder.", "taesd_decoder."), ("encoder.", "decoder."))
# Whose latents a pair makes: ComfyUI looks for these names, and tells the scaling by them.
PAIRS = {"taesd": 4, "taesdxl": 4, "taesd3": 16, "taef1": 16}


def find_halves(stored: Stored) -> dict[str, str]:
    """Which halves of TAESD a file holds, and the prefix of each one's names; none for another file."""
    for prefixes in _TOGETHER:
        if all(_is(stored, half, prefix) for half, prefix in zip(HALVES, prefixes, strict=True)):
            return dict(zip(HALVES, prefixes, strict=True))
    return next(({half: ""} for half in HALVES if _is(stored, half, "")), {})


def read_halves(stored: Stored, halves: dict[str, str]) -> State:
    """Both halves under diffusers' names; where the file holds one, the other comes from the file beside it.

    Raises InputError where that is not there, or is not the other half.
    """
    states = {half: stored.take(prefix) for half, prefix in halves.items()}
    for missing in set(HALVES) - set(states):
        other = _partner(stored.path, next(iter(states)), missing)
        if not _is(other, missing, ""):
            raise InputError(f"{other.path} is not the {missing} of TAESD that belongs to {stored.path}")
        states[missing] = other.take("")
    return from_taesd(states["encoder"], states["decoder"])


def _is(stored: Stored, half: str, prefix: str) -> bool:
    return all(prefix + mark in stored.names for mark in _MARKS[half])


def _partner(path: Path, half: str, other: str) -> Stored:
    """The file of the same name with `other` in place of `half`."""
    before, found, after = path.stem.rpartition(half)
    # First one of the same ending: a folder may hold the pairs of two models, in two formats.
    for suffix in (path.suffix, *WEIGHTS) if found else ():
        if (candidate := path.with_name(f"{before}{other}{after}{suffix}")).is_file():
            return open_stored(candidate)
    wanted = f"{before}{other}{after}{path.suffix}" if found else f"…_{other}{path.suffix}"
    raise InputError(f"{path} is the {half} of a TAESD alone; its {other} must lie beside it as {wanted}")
