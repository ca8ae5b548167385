"""What the recipes of tiny-sd share: class folders of photographs, their names in words, and captions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tokenizers.pre_tokenizers import ByteLevel
from torch import Tensor
from transformers import CLIPTokenizer

# The concepts of tiny-sd: classes of Caltech-101 with 70 training photographs and more that are easy to tell apart.
CONCEPTS = (
    "airplanes", "bonsai", "butterfly", "car_side", "chandelier", "grand_piano", "hawksbill",
    "helicopter", "ketch", "leopards", "motorbikes", "starfish", "sunflower", "watch",
)  # fmt: skip
WORDS = {
    "airplanes": "airplane", "motorbikes": "motorbike", "leopards": "leopard", "car_side": "car",
    "hawksbill": "hawksbill turtle",
    "water_lilly": "water lily", "cougar_body": "cougar", "crocodile_head": "crocodile head",
}  # fmt: skip
TEMPLATES = (
    "a photo of a {}", "a photo of the {}", "a picture of a {}", "an image of a {}", "{}", "one {}", "a {} in a photograph",
    "a good photo of a {}", "a close-up of a {}", "a small photo of a {}", "this is a {}", "there is a {} here",
)  # fmt: skip
TOKENS = 24


def word(folder: str) -> str:
    return WORDS.get(folder, folder.replace("_", " "))


def caption(folder: str, rng: np.random.Generator) -> str:
    return TEMPLATES[rng.integers(len(TEMPLATES))].format(word(folder))


def load_classes(folder: Path, names: tuple[str, ...] | None = None) -> tuple[list[str], Tensor, Tensor]:
    """Class names (those in `names`, or all), the photographs as uint8 `n 3 128 128`, and the class of each."""
    found = [p.name for p in sorted(folder.iterdir()) if p.is_dir() and (names is None or p.name in names)]
    if names and len(found) < len(names):
        raise SystemExit(f"{folder} lacks the classes {', '.join(sorted(set(names) - set(found)))}")
    paths = [(i, p) for i, name in enumerate(found) for p in sorted((folder / name).glob("*.jpg"))]
    if not paths:
        raise SystemExit(f"no class folders with .jpg below {folder}")
    pixels = np.stack([np.asarray(Image.open(p).convert("RGB")) for _, p in paths])
    return found, torch.from_numpy(pixels).permute(0, 3, 1, 2), torch.tensor([i for i, _ in paths])


def build_tokenizer(names: list[str]) -> CLIPTokenizer:
    """CLIP's byte-level BPE, its merges learnt on the captions."""
    captions = [template.format(word(name)) for name in names for template in TEMPLATES]
    # Every byte that can end a word ends one here: no text is unknown, and none becomes the end token, where text is pooled.
    captions += [" ".join(map(chr, (*range(33, 127), *range(128, 192))))] * 20
    return CLIPTokenizer(model_max_length=TOKENS).train_new_from_iterator(
        captions, vocab_size=800, show_progress=False, initial_alphabet=ByteLevel.alphabet()
    )


def tokenize(tokenizer: CLIPTokenizer, captions: list[str], padding: str = "max_length"):
    return tokenizer(captions, padding=padding, max_length=TOKENS, truncation=True, return_tensors="pt")
