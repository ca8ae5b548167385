"""Purifiers without a network: JPEG, noise, resizing, and the filters of AdverseCleaner."""

from __future__ import annotations

import io

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

from srlvae.extras import need
from srlvae.images import Images, to_levels, to_pil, to_tensor
from srlvae.purify.table import Purifier
from srlvae.rng import Generators, normal_like


def jpeg(x: Images, *, generators: Generators, quality: int) -> Images:
    """Write the images as JPEG with the usual halved colour (4:2:0), and read them again."""

    def again(image: Image.Image) -> Image.Image:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=quality, subsampling="4:2:0")
        return Image.open(file).convert("RGB")

    return torch.stack([to_tensor(again(to_pil(image))) for image in x]).to(x.device)


def noise(x: Images, *, generators: Generators, sigma: float) -> Images:
    """Add Gaussian noise of standard deviation `sigma`, and clamp to [0,1]."""
    return (x + sigma * normal_like(x, generators)).clamp(0, 1)


def resize(x: Images, *, generators: Generators, factor: float) -> Images:
    """Resize the images to 1/factor of their sides and back (bicubic)."""
    height, width = x.shape[-2:]
    small = (max(1, round(height / factor)), max(1, round(width / factor)))
    x = F.interpolate(x, small, mode="bicubic", antialias=True)
    return F.interpolate(x, (height, width), mode="bicubic", antialias=True).clamp(0, 1)


def adverse_cleaner(x: Images, *, generators: Generators, bilateral: int, guided: int) -> Images:
    """Apply `bilateral` bilateral filters, then `guided` guided filters whose guide is the attacked image.

    The bilateral filters have diameter 5 and σ = 8 in colour and space. The guided filters have radius 4 and ε = 16. Both work
    on grey levels in float32. Raises ModuleNotFoundError if the extra `purify` is not installed.
    """
    (cv2,) = need("purify", "cv2")

    def cleaned(levels: np.ndarray) -> np.ndarray:
        y = levels
        for _ in range(bilateral):
            y = cv2.bilateralFilter(y, 5, 8, 8)
        for _ in range(guided):
            y = cv2.ximgproc.guidedFilter(levels, y, 4, 16)
        return y

    found = [cleaned(to_levels(image).permute(1, 2, 0).cpu().numpy().astype(np.float32)) for image in x]
    return torch.from_numpy(np.stack(found)).permute(0, 3, 1, 2).to(x).div(255).clamp(0, 1)


JPEG = Purifier(jpeg, "JPEG; also 65 and 85 in the literature", settings={"quality": 75})
NOISE = Purifier(noise, "Gaussian noise", settings={"sigma": 0.05})
RESIZE = Purifier(resize, "down to half and back", settings={"factor": 2.0})
ADVERSE_CLEANER = Purifier(
    adverse_cleaner,
    "AdverseCleaner (lllyasviel)",
    settings={"bilateral": 64, "guided": 4},
    short_settings={"bilateral": 1, "guided": 1},
)
