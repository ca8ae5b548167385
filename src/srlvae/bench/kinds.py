"""Clean pictures that are no photographs, or photographs in a bad state: what a scan must not call perturbed.

Each kind is a function of an RGB photograph, an array `h w 3` in [0,1], and of the generator that its parameters are drawn
from. Drawn kinds, such as text, take no more from the photograph than its size or its colours.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from srlvae.bench import kinds_drawn as drawn
from srlvae.bench import kinds_spoiled as spoiled
from srlvae.bench.kinds_shared import Draw, Picture
from srlvae.images import Images, to_levels

KINDS: dict[str, Callable[[Picture, Draw], Picture]] = {
    "halftone": drawn.halftone,
    "noise of 25/255": spoiled.noisy_25,
    "noise": spoiled.noisy,
    "high ISO": spoiled.high_iso,
    "text": drawn.text,
    "dark": spoiled.dark,
    "pencil sketch": drawn.sketch,
    "salt and pepper": spoiled.salt_and_pepper,
    "line drawing": drawn.line_drawing,
    "film grain": spoiled.film_grain,
    "screenshot": drawn.screenshot,
    "gradient": drawn.gradient,
    "cartoon": drawn.cartoon,
    "low JPEG": spoiled.low_jpeg,
    "grey": spoiled.grey,
    "dithered": drawn.dithered,
    "blurred": spoiled.defocused,
    "sharpened": spoiled.sharpened,
    "negative": spoiled.negative,
    "pixel art": drawn.pixel_art,
    "stripes": spoiled.stripes,
    "washed out": spoiled.washed_out,
}


def of_kind(kind: str, x: Images, seed: int) -> Images:
    """The photographs `x` turned into pictures of a kind in KINDS, in whole grey levels. Image i depends on the seed and i."""
    draws = (np.random.default_rng((seed, i)) for i in range(len(x)))
    found = [KINDS[kind](image.permute(1, 2, 0).numpy().astype(np.float64), draw) for image, draw in zip(x, draws, strict=True)]
    return torch.stack([whole_levels(picture) for picture in found])


def whole_levels(x: Picture) -> Tensor:
    """The picture as a tensor `3 h w` of whole grey levels in [0,1]."""
    return to_levels(torch.from_numpy(np.ascontiguousarray(x.clip(0, 1))).permute(2, 0, 1)).float() / 255
