"""What a result was made with."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version


def versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "machine": f"{platform.system()} {platform.machine()}"}
    for package in ("srlvae", "torch", "diffusers", "transformers", "accelerate", "numpy", "pillow"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
