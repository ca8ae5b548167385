"""Clean photographs in a bad state, or another than usual: noise, little light, hard compression."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from srlvae.bench.kinds_shared import Draw, Picture, array, blurred, greyed, pil


def noisy(x: Picture, draw: Draw) -> Picture:
    """Gaussian noise of a standard deviation of 8 to 50 grey levels."""
    return x + draw.uniform(8, 50) / 255 * draw.standard_normal(x.shape)


def noisy_25(x: Picture, draw: Draw) -> Picture:
    """Gaussian noise of a standard deviation of 25 grey levels."""
    return x + 25 / 255 * draw.standard_normal(x.shape)


def high_iso(x: Picture, draw: Draw) -> Picture:
    """A sensor in the dark: noise that grows with the light, and coarse noise of colour."""
    shot, read, colour = draw.uniform(0.03, 0.15), draw.uniform(0.01, 0.04), draw.uniform(0.02, 0.08)
    x = x * draw.uniform(0.5, 1.0)
    coarse = blurred(draw.standard_normal(x.shape), draw.uniform(0.6, 1.5))
    coarse = (coarse - coarse.mean(2, keepdims=True)) / coarse.std()
    fine = draw.standard_normal(x.shape) * (1 if draw.random() < 0.5 else [[[0.9, 0.7, 1.2]]])
    return x + np.sqrt(shot**2 * x + read**2) * fine + colour * coarse


def film_grain(x: Picture, draw: Draw) -> Picture:
    """Grain of the lightness alone, a little coarser than a pixel, strongest in middle tones."""
    grain = blurred(draw.standard_normal((*x.shape[:2], 1)), draw.uniform(0.4, 1.2))
    middle = 0.3 + 2.8 * x.mean(2, keepdims=True) * (1 - x.mean(2, keepdims=True))
    return x + draw.uniform(0.02, 0.12) * middle * grain / grain.std()


def salt_and_pepper(x: Picture, draw: Draw) -> Picture:
    """Pixels of black or white, of all channels or of one, 0.5 to 15 % of them."""
    size = x.shape if draw.random() < 0.5 else (*x.shape[:2], 1)
    hit, white = draw.random(size) < 10 ** draw.uniform(-2.3, -0.8), draw.random(size) < 0.5
    return np.where(hit, white, x)


def dark(x: Picture, draw: Draw) -> Picture:
    """Too little light: a fifth of it to a thirtieth, at times with a little noise."""
    return x ** draw.uniform(1, 1.6) * draw.uniform(0.03, 0.25) + draw.choice([0, 0, 0.008]) * draw.standard_normal(x.shape)


def low_jpeg(x: Picture, draw: Draw) -> Picture:
    """JPEG of a quality of 5 to 30."""
    file = io.BytesIO()
    pil(x).save(file, "JPEG", quality=int(draw.integers(5, 31)))
    return array(Image.open(file))


def grey(x: Picture, draw: Draw) -> Picture:
    """Black and white, with the contrast of an old print or more."""
    return (greyed(x) - 0.5) * draw.uniform(0.6, 1.4) + 0.5


def defocused(x: Picture, draw: Draw) -> Picture:
    """Out of focus by 1 to 4 pixels."""
    return blurred(x, draw.uniform(1, 4))


def sharpened(x: Picture, draw: Draw) -> Picture:
    """Unsharp masking of 1 to 3 times the difference."""
    return x + draw.uniform(1, 3) * (x - blurred(x, draw.uniform(0.6, 2)))


def negative(x: Picture, draw: Draw) -> Picture:
    """Light for dark."""
    return 1 - x


def stripes(x: Picture, draw: Draw) -> Picture:
    """The photograph behind a grid of lines, as of a screen."""
    rows, columns = np.mgrid[: x.shape[0], : x.shape[1]]
    angle, period = draw.uniform(0, np.pi), draw.uniform(2, 8)
    wave = np.sin(2 * np.pi * (rows * np.cos(angle) + columns * np.sin(angle)) / period)[..., None]
    return x * (1 + draw.uniform(0.1, 0.6) * wave)


def washed_out(x: Picture, draw: Draw) -> Picture:
    """Too much light, or fog."""
    if draw.random() < 0.5:
        return 1 - (1 - x) * draw.uniform(0.1, 0.5)
    return (x - 0.5) * draw.uniform(0.15, 0.5) + draw.uniform(0.4, 0.7)
