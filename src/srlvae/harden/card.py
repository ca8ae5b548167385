"""The model card of a hardened VAE: what it was made from, what it gives, and how to load it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import ModelCard, ModelCardData, metadata_load

from srlvae.errors import InputError
from srlvae.models.encoders import NAME as ENCODER
from srlvae.models.hub import fetch, online
from srlvae.models.sources import Source
from srlvae.models.vae import RECORD, VAE

CARD, PICTURE = "README.md", "before_after.png"
TAGS = ["srlvae", "vae", "robustness"]

BODY = """
# A hardened VAE

The encoder of {base}, post-trained by [SRL-VAE](https://arxiv.org/abs/2504.17219) with `srlvae harden` so that
adversarial perturbations move it less. The decoder is the original's, bit for bit. It loads in the original's place:

```python
from diffusers import AutoModel
vae = AutoModel.from_pretrained("this folder")
```

It was trained for {steps} steps.{planned}{closeness}

The table has means over {photographs} photographs that were set apart from training, computed in {precision}. Attacks
take 10 steps within 15/255. Shifts are relative to the norm of the original's clean latents:

| | original | hardened |
|---|---|---|
{rows}

![clean, attacked at 15/255, reconstruction of the attacked photograph by the original and by the hardened VAE]({picture})

`{encoder}` is the hardened encoder alone: `srlvae apply` puts it onto a copy of the original. ComfyUI, A1111, Forge and
kohya's scripts do not read this folder: `srlvae export` writes the files that they read.
Settings, versions and fingerprints are in `{record}`. {licence}
"""
CLOSENESS = " Clean latents may differ from the original's by {:g} of their norm (`closeness`)."
PLANNED = " When it began, {} were planned: its learning rate first followed that number."
LICENCE_UNKNOWN = "The licence is that of the original weights, which is not known here. Name it above before you publish."


@dataclass(frozen=True)
class Base:
    """What a VAE was made from: its id on the hub, and its licence as the hub calls it; each None where it is not known."""

    name: str | None
    licence: str | None


def base_of(original: VAE) -> Base:
    """What is known of the original: from the hub where it came from there, else from the card in its own folder."""
    place = str(original.model.config.get("_name_or_path") or "")
    if place and Path(place).is_dir():
        return Base(None, _licence(Path(place) / CARD))
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", place):
        return Base(None, None)
    try:
        card = fetch(Source(None, place), CARD, offline=not online())
    except InputError:
        card = None
    return Base(place, _licence(card) if card else None)


def _licence(card: Path) -> str | None:
    try:
        return (metadata_load(card) or {}).get("license")
    except Exception:  # a run does not end for a card that cannot be read
        return None


def write_card(record: dict, rows: list[tuple[str, str, str]], base: Base) -> str:
    """The card's text. record: what goes into the run's record; rows: measures before and after, as `score_rows` gives them."""
    data = ModelCardData(
        base_model=base.name,
        license=base.licence,
        library_name="diffusers",
        pipeline_tag="image-to-image",
        tags=TAGS,
    )
    closeness, planned = record["config"]["objective"]["closeness"], record["steps_planned"]
    body = BODY.format(
        base=f"[{base.name}](https://huggingface.co/{base.name})" if base.name else "an autoencoder",
        steps=record["config"]["steps"],
        planned=PLANNED.format(planned[0]) if len(planned) > 1 else "",
        closeness=CLOSENESS.format(closeness) if closeness else "",
        photographs=record["scores"]["photographs"],
        precision=record["scores"]["precision"],
        rows="\n".join(f"| {label} | {before} | {after} |" for label, before, after in rows),
        picture=PICTURE,
        encoder=ENCODER,
        record=RECORD,
        licence="The licence is that of the original weights." if base.licence else LICENCE_UNKNOWN,
    )
    return str(ModelCard(f"---\n{data.to_yaml()}\n---\n{body}"))
