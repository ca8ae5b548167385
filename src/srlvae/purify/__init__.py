"""The purifiers by name.

To add one, write its function and its `Purifier` in the file of its family, and add a line here.
"""

from __future__ import annotations

from srlvae.purify.autoencoder import IMPRESS, ROUND_TRIP
from srlvae.purify.latent_diffusion import ONE_STEP, SDEDIT, TILED_SDEDIT
from srlvae.purify.pixel_diffusion import DIFFPURE, NOISY_UPSCALING, PDM_PURE
from srlvae.purify.remover import LEARNED_REMOVER
from srlvae.purify.signal import ADVERSE_CLEANER, JPEG, NOISE, RESIZE
from srlvae.purify.table import Purifier

__all__ = ["PURIFIERS", "Purifier"]

PURIFIERS: dict[str, Purifier] = {
    "jpeg": JPEG,
    "gaussian-noise": NOISE,
    "resize": RESIZE,
    "adverse-cleaner": ADVERSE_CLEANER,
    "vae-round-trip": ROUND_TRIP,
    "impress": IMPRESS,
    "one-step": ONE_STEP,
    "sdedit": SDEDIT,
    "tiled-sdedit": TILED_SDEDIT,
    "diffpure": DIFFPURE,
    "noisy-upscaling": NOISY_UPSCALING,
    "pdm-pure": PDM_PURE,
    "learned-remover": LEARNED_REMOVER,
}
