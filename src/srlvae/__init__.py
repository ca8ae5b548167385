"""Post-training that makes a pre-trained latent-diffusion VAE robust, with the attacks and benchmarks that prove it."""

from __future__ import annotations

import importlib

# Public names and where they live; loaded on first use, as importing the package should cost nothing.
_HOMES = {
    "VAE": "srlvae.models.vae",
    "load_vae": "srlvae.models.vae",
    "pgd": "srlvae.attacks.engine.pgd",
    "ATTACKS": "srlvae.attacks",
    "InputError": "srlvae.errors",
}
__all__ = list(_HOMES)


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module 'srlvae' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
