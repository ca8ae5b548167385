"""Which names are ids on the Hugging Face hub: a path that is mistyped is not fetched from whoever owns that name there."""

from __future__ import annotations

import os
import re

from srlvae.errors import InputError

HUB = "hf://"
# Whose models are common enough that owner/name alone is taken for an id. All others are written hf://owner/name.
PUBLISHERS = (
    *("black-forest-labs", "CompVis", "DeepFloyd", "diffusers", "google", "kandinsky-community", "KBlueLeaf", "laion"),
    *("madebyollin", "ostris", "openai", "playgroundai", "Qwen", "runwayml", "segmind", "SimianLuo", "stabilityai"),
    *("stable-diffusion-v1-5", "Wan-AI"),
)
_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")


def hub_id(text: str, what: str) -> str:
    """`text` without `hf://`. what: the kind of thing, for the error.

    Raises InputError for owner/name without `hf://` where a file or folder of the owner's name is here, or where the owner is
    none of PUBLISHERS and nothing of that name was downloaded before: it may be a path that is written wrong, and anyone can
    publish something under such a name.
    """
    if text.startswith(HUB):
        return text.removeprefix(HUB)
    owner = text.partition("/")[0]
    if os.path.lexists(owner):
        raise InputError(
            f"{text} is not here: {owner} is, and has no such {what} in it. Correct the path, or write {HUB}{text} if you mean "
            f"the {what} of that name on the Hugging Face hub"
        )
    if owner not in PUBLISHERS and not _cached(text):
        raise InputError(
            f"{text} is no file or folder here. Correct the path, or write {HUB}{text} if you mean the {what} of that name on "
            "the Hugging Face hub, and trust who owns it"
        )
    return text


def is_hub_id(text: str) -> bool:
    """Whether a text is `hf://owner/name`. Other texts that begin so are paths in a repository."""
    return text.startswith(HUB) and bool(_ID.fullmatch(text.removeprefix(HUB)))


def _cached(text: str) -> bool:
    """Whether the hub's cache has a repository of this name: then it was meant before, and is there without a network."""
    from huggingface_hub import constants

    found = _ID.match(text)
    return bool(found) and os.path.isdir(os.path.join(constants.HF_HUB_CACHE, "models--" + found[0].replace("/", "--")))


def check_id(text: str, what: str) -> str:
    """The id owner/name in `text`, as `hub_id` says. Raises InputError also for what has not that form."""
    found = hub_id(text, what) if text.startswith(HUB) or _ID.fullmatch(text) else ""
    if not _ID.fullmatch(found):
        raise InputError(f"{text} is no {what}: neither a file or folder here nor an id on the hub, {HUB}owner/name")
    return found
