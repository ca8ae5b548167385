"""What a user may write for a model: a path here or a place on the hub, and which of its versions."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from srlvae.errors import InputError
from srlvae.trust.ids import HUB, hub_id

# Endings of files that hold weights.
WEIGHTS = (".safetensors", ".sft", ".ckpt", ".pt", ".pth", ".bin")
# In words, for errors and help.
SPELLING = f"{HUB}owner/name, {HUB}owner/name/subfolder, {HUB}owner/name@revision, with :fp16 behind for a variant"

_PART = r"[\w][\w.-]*"
_HUB = re.compile(rf"(?P<repository>{_PART}/{_PART})(?P<inside>(/{_PART})*)(@(?P<revision>[\w./-]+))?")


@dataclass(frozen=True)
class Source:
    """Where a model is. path: a file or folder here, or None for the hub, where `repository` is an id.

    inside: a folder or file in the repository, "" for its top. revision: a branch, tag or commit. word: what stands behind a
    colon, which is a variant such as fp16 for folders and repositories, and for a file the model whose latents it makes.
    """

    path: Path | None
    repository: str = ""
    inside: str = ""
    revision: str | None = None
    word: str | None = None


def parse(text: str | Path, kind: str) -> Source:
    """The source that `text` names; what is on this disk comes first, but for `hf://`. kind: of model, for the error.

    Raises InputError for what is neither here nor could be on the hub, or could be a path as well; see `hub_id`.
    """
    meant = str(text).startswith(HUB)
    if not meant and Path(text).exists():
        return Source(Path(text))
    rest, colon, word = str(text).rpartition(":")
    if not colon or not re.fullmatch(r"\w+", word):
        rest, word = str(text), None
    if not meant and rest and Path(rest).exists():
        return Source(Path(rest), word=word)
    found = _HUB.fullmatch(rest.removeprefix(HUB))
    if not found:
        raise InputError(
            f"{text} is not a folder, hub id, bundled {kind} or file of weights; a hub id is written {SPELLING}, and "
            "srlvae models lists what is bundled"
        )
    hub_id(str(text), kind)
    return Source(None, found["repository"], found["inside"].strip("/"), found["revision"], word)
