"""The models that come with the package: folders beside this file in diffusers' format, each with its model card."""

from __future__ import annotations

import json
from pathlib import Path

FOLDER = Path(__file__).parent
# One copy of the VAE serves by itself and as the pipeline's.
INSIDE = {"tiny": "tiny-sd/vae"}
# Folders of what is no model by itself.
PARTS = ("encoders", "directions")
# What each bundled model is, for the list of them.
ABOUT = {
    "judge": "says which concept an image shows, for the poisoning benchmark",
    "tiny": "the autoencoder of tiny-sd, as it was before hardening",
    "tiny-clip": "a small CLIP, which compares images and prompts",
    "tiny-sd": "a pipeline like Stable Diffusion's in miniature, for images of 128 pixels",
    "tiny-srl": "tiny with a hardened encoder; the scores are original → hardened",
    "taef1-srl": "a hardened encoder for madebyollin/taef1; srlvae apply puts it onto that autoencoder",
    "taesd-srl": "a hardened encoder for madebyollin/taesd; srlvae apply puts it onto that autoencoder",
}


def bundled(name: str) -> Path | None:
    """The folder of the bundled model called `name`, or None if there is no such model."""
    return FOLDER / INSIDE.get(name, name) if name in names() else None


def encoder_file(name: str) -> Path | None:
    """The bundled encoder file called `name`, or None if there is none. The base that it belongs to is not in the package."""
    path = FOLDER / "encoders" / f"{name}.safetensors"
    return path if "/" not in name and path.is_file() else None


def encoder_names() -> list[str]:
    """The names of the bundled encoder files, sorted."""
    return sorted(path.stem for path in (FOLDER / "encoders").glob("*.safetensors"))


def names() -> list[str]:
    """The names of all bundled models, sorted."""
    found = [*(p.name for p in FOLDER.iterdir() if p.name not in PARTS), *INSIDE]
    return sorted(name for name in found if (FOLDER / INSIDE.get(name, name) / "README.md").is_file())


def vaes() -> list[str]:
    """The names of the bundled models that are autoencoders, sorted."""
    return [name for name in names() if _kind(FOLDER / INSIDE.get(name, name)).startswith("Autoencoder")]


def _kind(folder: Path) -> str:
    """The class in a model's configuration; blank for what has none, such as a pipeline."""
    config = folder / "config.json"
    return json.loads(config.read_text(encoding="utf-8")).get("_class_name", "") if config.is_file() else ""
