"""What the makers of clean pictures of other kinds share: arrays `h w 3` in [0,1], and the generator of their parameters."""

from __future__ import annotations

import numpy as np
from PIL import Image

Picture = np.ndarray
Draw = np.random.Generator
GREY = np.array([0.299, 0.587, 0.114])


def pil(x: Picture) -> Image.Image:
    """The picture of 8 bits."""
    return Image.fromarray((x.clip(0, 1) * 255).round().astype(np.uint8))


def array(image: Image.Image) -> Picture:
    """The picture as an array."""
    return np.asarray(image.convert("RGB"), dtype=np.float64) / 255


def greyed(x: Picture) -> Picture:
    """The picture without its colours."""
    return np.repeat((x @ GREY)[..., None], 3, 2)


def blurred(x: Picture, radius: float) -> Picture:
    """A Gaussian blur of values of any range, channel by channel."""
    side = int(3 * radius) + 1
    taps = np.exp(-0.5 * (np.arange(-side, side + 1) / radius) ** 2)
    taps /= taps.sum()
    for axis in (0, 1):
        padded = np.pad(x, [(side, side) if a == axis else (0, 0) for a in range(3)], mode="symmetric")
        windows = np.lib.stride_tricks.sliding_window_view(padded, len(taps), axis=axis)
        x = windows @ taps
    return x
