"""Cosines of CLIP embeddings: image to image (CLIP-I), image to text (CLIP-T), and zero-shot classes.

Radford et al. 2021 (arXiv 2103.00020). Scores of different networks do not compare, so every number is labelled with the name
of its network.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from srlvae.errors import InputError
from srlvae.extras import need
from srlvae.files import read_record
from srlvae.images import Images, check_images
from srlvae.metrics.pairwise import PerImage
from srlvae.provenance import fingerprint
from srlvae.trust.budget import Budget, weights_size
from srlvae.trust.folders import check_folder
from srlvae.trust.ids import check_id
from srlvae.zoo import bundled


class Clip:
    """A CLIP network that maps images `b 3 h w` in [0,1] and texts to unit vectors of one space. Gradients flow to the images.

    `mean` and `std` are what the network's pixels are normalised by, one number for each colour channel.
    """

    def __init__(self, name: str, model: Any, tokenizer: Any, mean: list[float], std: list[float]):
        self.name, self.model, self.tokenizer = name, model, tokenizer
        self.size: int = model.config.vision_config.image_size
        self.mean, self.std = torch.tensor(mean).view(3, 1, 1), torch.tensor(std).view(3, 1, 1)

    def images(self, x: Images) -> Float[Tensor, "b d"]:
        """Unit vectors of images. Images are resized to the network's square without cropping."""
        if check_images(x).shape[-2:] != (self.size, self.size):
            x = F.interpolate(x, (self.size, self.size), mode="bicubic", antialias=True).clamp(0, 1)
        pixels = (x - self.mean.to(x)) / self.std.to(x)
        pooled = self.model.vision_model(pixel_values=pixels).pooler_output
        return F.normalize(self.model.visual_projection(pooled), dim=-1)

    @torch.no_grad()
    def texts(self, texts: list[str]) -> Float[Tensor, "b d"]:
        """Unit vectors of texts. Texts are cut off where they are longer than the network reads."""
        length = self.model.config.text_config.max_position_embeddings
        tokens = self.tokenizer(texts, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
        pooled = self.model.text_model(**tokens.to(self.model.device)).pooler_output
        return F.normalize(self.model.text_projection(pooled), dim=-1)

    def fingerprint(self) -> str:
        """The SHA-256 of the weights."""
        return fingerprint(self.model)


def clip_i(clip: Clip, x: Float[Tensor, "b 3 _ _"], y: Float[Tensor, "b 3 _ _"]) -> PerImage:
    """The cosine of the image vectors of x and y, pair by pair, in [-1,1]."""
    return (clip.images(x) * clip.images(y)).sum(-1)


def clip_t(clip: Clip, x: Images, prompts: list[str]) -> PerImage:
    """The cosine of each image with its prompt, in [-1,1]. Published scores are often 100 times this."""
    return (clip.images(x) * clip.texts(prompts)).sum(-1)


def zero_shot(clip: Clip, x: Images, prompts: list[str]) -> Int[Tensor, " b"]:
    """The index of the prompt that is nearest to each image."""
    return (clip.images(x) @ clip.texts(prompts).T).argmax(-1)


def load_clip(name: str, device: torch.device | str = "cpu") -> Clip:
    """Load a CLIP from a bundled name, a folder, or a hub id such as openai/clip-vit-base-patch32; frozen.

    Raises InputError if there is none, or if its folder asks for more than weights; see `trust.folders`.
    """
    (transformers,) = need("pipeline", "transformers")
    folder = bundled(name) or Path(name)
    try:
        folder = folder if folder.is_dir() else _from_hub(name)
        check_folder(folder)
        mean, std = _scale(folder / "preprocessor_config.json")
        with Budget(weights_size(folder), folder):
            model = transformers.CLIPModel.from_pretrained(str(folder), dtype=torch.float32, local_files_only=True)
        tokenizer = transformers.CLIPTokenizer.from_pretrained(str(folder), local_files_only=True)
    except Exception as error:  # transformers, safetensors and the hub each raise their own kinds
        raise InputError(f"cannot load a CLIP from {name}: {error}") from error
    return Clip(name, model.to(device).eval().requires_grad_(False), tokenizer, mean, std)


def _from_hub(name: str) -> Path:
    """The folder in the hub's cache with a CLIP's configuration, tokenizer and weights, in safetensors where there are some."""
    from huggingface_hub import snapshot_download

    place = check_id(name, "CLIP")
    folder = Path(snapshot_download(place, allow_patterns=["*.json", "*.txt", "*.safetensors"]))
    if not any(folder.glob("*.safetensors")):
        folder = Path(snapshot_download(place, allow_patterns=["*.json", "*.txt", "pytorch_model*.bin"]))
    return folder


def _scale(settings: Path) -> tuple[list[float], list[float]]:
    """What the pixels of a network are normalised by: means and deviations. Raises InputError for what is no such thing."""
    found = read_record(settings)
    mean, std = (torch.tensor(found.get(key), dtype=torch.float32) for key in ("image_mean", "image_std"))
    if mean.shape != (3,) or std.shape != (3,) or not mean.isfinite().all() or not (std > 0).all():
        raise InputError(f"{settings} has no image_mean and image_std of three colours")
    return mean.tolist(), std.tolist()
