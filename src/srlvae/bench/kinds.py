"""Clean pictures that are no photographs, or photographs in a bad state: what a scan must not call perturbed.

Each kind is a function of an RGB photograph, an array `h w 3` in [0,1], and of the generator that its parameters are drawn
from. Drawn kinds, such as text, take no more from the photograph than its size or its colours.
"""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from torch import Tensor

from srlvae.images import Images, to_levels

Picture = np.ndarray
Draw = np.random.Generator
GREY = np.array([0.299, 0.587, 0.114])
BAYER = np.array([[0, 8, 2, 10], [12, 4, 14, 6], [3, 11, 1, 9], [15, 7, 13, 5]])
WORDS = "of light and every one picture was made by hand in the year when nothing else could be seen from afar".split()


def of_kind(kind: str, x: Images, seed: int) -> Images:
    """The photographs `x` turned into pictures of a kind in KINDS, in whole grey levels. Image i depends on the seed and i."""
    draws = (np.random.default_rng((seed, i)) for i in range(len(x)))
    found = [KINDS[kind](image.permute(1, 2, 0).numpy().astype(np.float64), draw) for image, draw in zip(x, draws, strict=True)]
    return torch.stack([_levels(picture) for picture in found])


def _levels(x: Picture) -> Tensor:
    return to_levels(torch.from_numpy(np.ascontiguousarray(x.clip(0, 1))).permute(2, 0, 1)).float() / 255


def _pil(x: Picture) -> Image.Image:
    return Image.fromarray((x.clip(0, 1) * 255).round().astype(np.uint8))


def _array(image: Image.Image) -> Picture:
    return np.asarray(image.convert("RGB"), dtype=np.float64) / 255


def _grey(x: Picture) -> Picture:
    return np.repeat((x @ GREY)[..., None], 3, 2)


def _blurred(x: Picture, radius: float) -> Picture:
    """A Gaussian blur of values of any range, channel by channel."""
    planes = [Image.fromarray(x[..., c].astype(np.float32)) for c in range(x.shape[2])]
    side = int(3 * radius) + 1
    padded = [np.pad(np.asarray(plane), side, mode="reflect") for plane in planes]
    taps = np.exp(-0.5 * (np.arange(-side, side + 1) / max(radius, 1e-3)) ** 2)
    taps /= taps.sum()
    rows = [sum(tap * p[i : i + x.shape[0]] for i, tap in enumerate(taps)) for p in padded]
    return np.stack([sum(tap * row[:, i : i + x.shape[1]] for i, tap in enumerate(taps)) for row in rows], 2)


def halftone(x: Picture, draw: Draw) -> Picture:
    """Dots of ink on a turned grid, larger where it is darker: black, or a grid for each of three colours."""
    cell, angle = draw.uniform(2.5, 8), draw.uniform(0, np.pi / 2)
    soft, grey = draw.uniform(4, 30), draw.random() < 0.6
    rows, columns = np.mgrid[: x.shape[0], : x.shape[1]]
    found = _grey(x) if grey else x.copy()
    for c in range(3):
        turned = angle + (0 if grey else c * np.pi / 6)
        u, v = rows * np.cos(turned) + columns * np.sin(turned), columns * np.cos(turned) - rows * np.sin(turned)
        screen = (np.cos(2 * np.pi * u / cell) + np.cos(2 * np.pi * v / cell)) / 4 + 0.5
        found[..., c] = 1 / (1 + np.exp(-soft * (found[..., c] - screen)))
    return found


def dithered(x: Picture, draw: Draw) -> Picture:
    """Few tones, and patterns of them for those between: Bayer's, or errors handed on as in a GIF."""
    if draw.random() < 0.5:
        steps, size = int(draw.integers(1, 4)), x.shape[:2]
        pattern = np.tile((BAYER + 0.5) / 16, (size[0] // 4 + 1, size[1] // 4 + 1))[: size[0], : size[1], None]
        return np.floor((_grey(x) if draw.random() < 0.5 else x) * steps + pattern) / steps
    if draw.random() < 0.5:
        return _array(_pil(x).convert("1"))
    return _array(_pil(x).quantize(int(draw.integers(4, 32)), dither=Image.Dither.FLOYDSTEINBERG))


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
    coarse = _blurred(draw.standard_normal(x.shape), draw.uniform(0.6, 1.5))
    coarse = (coarse - coarse.mean(2, keepdims=True)) / coarse.std()
    fine = draw.standard_normal(x.shape) * (1 if draw.random() < 0.5 else [[[0.9, 0.7, 1.2]]])
    return x + np.sqrt(shot**2 * x + read**2) * fine + colour * coarse


def film_grain(x: Picture, draw: Draw) -> Picture:
    """Grain of the lightness alone, a little coarser than a pixel, strongest in middle tones."""
    grain = _blurred(draw.standard_normal((*x.shape[:2], 1)), draw.uniform(0.4, 1.2))
    middle = 0.3 + 2.8 * x.mean(2, keepdims=True) * (1 - x.mean(2, keepdims=True))
    return x + draw.uniform(0.02, 0.12) * middle * grain / grain.std()


def salt_and_pepper(x: Picture, draw: Draw) -> Picture:
    """Pixels of black or white, of all channels or of one, 0.5 to 15 % of them."""
    size = x.shape if draw.random() < 0.5 else (*x.shape[:2], 1)
    hit, white = draw.random(size) < 10 ** draw.uniform(-2.3, -0.8), draw.random(size) < 0.5
    return np.where(hit, white, x)


def text(x: Picture, draw: Draw) -> Picture:
    """Lines of words on plain paper, dark on light or the other way round."""
    size, paper = int(draw.integers(8, 28)), draw.uniform(0.85, 1, 3)
    ink = draw.uniform(0, 0.3, 3)
    paper, ink = (paper, ink) if draw.random() < 0.75 else (ink, paper)
    image = _pil(np.broadcast_to(paper, x.shape))
    pen, font, colour = ImageDraw.Draw(image), ImageFont.load_default(size), tuple(int(255 * part) for part in ink)
    left = int(draw.integers(0, 12))
    for top in range(int(draw.integers(0, 12)), x.shape[0], int(size * draw.uniform(1.1, 1.7))):
        pen.text((left, top), " ".join(draw.choice(WORDS, 3 + x.shape[1] // size)), fill=colour, font=font)
    return _array(image)


def screenshot(x: Picture, draw: Draw) -> Picture:
    """A window: a bar, boxes of plain colours, small words, and at times a picture in it."""
    image = _pil(np.broadcast_to(draw.choice([0.12, 0.95, 1.0]) + draw.uniform(-0.05, 0.05, 3), x.shape))
    pen, height, width = ImageDraw.Draw(image), x.shape[0], x.shape[1]
    for _ in range(int(draw.integers(3, 10))):
        left, top = int(draw.integers(0, width)), int(draw.integers(0, height))
        corner = (left + int(draw.integers(8, width // 2)), top + int(draw.integers(4, height // 3)))
        colours = [tuple(int(v) for v in draw.integers(0, 256, 3)) for _ in range(2)]
        pen.rectangle((left, top, *corner), fill=colours[0], outline=colours[1] if draw.random() < 0.5 else None)
        word, size = " ".join(draw.choice(WORDS, 2)), int(draw.integers(7, 14))
        pen.text((left + 2, top + 1), word, fill=colours[1], font=ImageFont.load_default(size))
    if draw.random() < 0.4:
        image.paste(_pil(x).resize((width // 2, height // 2)), (int(draw.integers(0, width // 2)), height // 4))
    return _array(image)


def dark(x: Picture, draw: Draw) -> Picture:
    """Too little light: a fifth of it to a thirtieth, at times with a little noise."""
    return x ** draw.uniform(1, 1.6) * draw.uniform(0.03, 0.25) + draw.choice([0, 0, 0.008]) * draw.standard_normal(x.shape)


def sketch(x: Picture, draw: Draw) -> Picture:
    """A pencil's: the grey picture divided by its blurred negative's negative."""
    grey = _grey(x)
    return ((grey + 0.02) / (_blurred(grey, draw.uniform(1.5, 6)) + 0.02)).clip(0, 1) ** draw.uniform(1, 4)


def line_drawing(x: Picture, draw: Draw) -> Picture:
    """Black lines on white where a blurred picture is steep."""
    smooth = _blurred(x @ GREY[:, None], draw.uniform(0.7, 2))[..., 0]
    steep = np.hypot(*np.gradient(smooth))
    lines = steep > np.quantile(steep, draw.uniform(0.8, 0.95))
    lines = np.repeat((1.0 - lines)[..., None], 3, 2)
    return lines if draw.random() < 0.5 else _blurred(lines, 0.5)


def cartoon(x: Picture, draw: Draw) -> Picture:
    """Flat areas of few tones, with dark outlines."""
    smooth, tones = _array(_pil(x).filter(ImageFilter.ModeFilter(int(draw.choice([5, 7, 9]))))), draw.integers(3, 7)
    flat = np.round(smooth * tones) / tones
    steep = np.hypot(*np.gradient(_blurred(smooth @ GREY[:, None], 1.0)[..., 0]))
    return flat * (1 - (steep > np.quantile(steep, draw.uniform(0.85, 0.97))))[..., None]


def gradient(x: Picture, draw: Draw) -> Picture:
    """A smooth passage from one colour to another, at times with a disc on it."""
    rows, columns = np.mgrid[: x.shape[0], : x.shape[1]] / max(x.shape)
    angle = draw.uniform(0, 2 * np.pi)
    way = (rows * np.cos(angle) + columns * np.sin(angle))[..., None]
    way = (way - way.min()) / (way.max() - way.min())
    found = way * draw.random(3) + (1 - way) * draw.random(3)
    near = np.hypot(rows - draw.random(), columns - draw.random())[..., None] < draw.uniform(-0.2, 0.4)
    return np.where(near, draw.random(3), found)


def low_jpeg(x: Picture, draw: Draw) -> Picture:
    """JPEG of a quality of 5 to 30."""
    file = io.BytesIO()
    _pil(x).save(file, "JPEG", quality=int(draw.integers(5, 31)))
    return _array(Image.open(file))


def grey(x: Picture, draw: Draw) -> Picture:
    """Black and white, with the contrast of an old print or more."""
    return (_grey(x) - 0.5) * draw.uniform(0.6, 1.4) + 0.5


def blurred(x: Picture, draw: Draw) -> Picture:
    """Out of focus by 1 to 4 pixels."""
    return _blurred(x, draw.uniform(1, 4))


def sharpened(x: Picture, draw: Draw) -> Picture:
    """Unsharp masking of 1 to 3 times the difference."""
    return x + draw.uniform(1, 3) * (x - _blurred(x, draw.uniform(0.6, 2)))


def negative(x: Picture, draw: Draw) -> Picture:
    """Light for dark."""
    return 1 - x


def pixel_art(x: Picture, draw: Draw) -> Picture:
    """Squares of 2 to 6 pixels, of few tones."""
    side, tones = int(draw.integers(2, 7)), int(draw.integers(3, 16))
    small = _pil(x).resize((max(1, x.shape[1] // side), max(1, x.shape[0] // side)), Image.Resampling.BOX)
    return np.round(_array(small.resize(x.shape[1::-1], Image.Resampling.NEAREST)) * tones) / tones


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


KINDS: dict[str, Callable[[Picture, Draw], Picture]] = {
    "halftone": halftone,
    "noise of 25/255": noisy_25,
    "noise": noisy,
    "high ISO": high_iso,
    "text": text,
    "dark": dark,
    "pencil sketch": sketch,
    "salt and pepper": salt_and_pepper,
    "line drawing": line_drawing,
    "film grain": film_grain,
    "screenshot": screenshot,
    "gradient": gradient,
    "cartoon": cartoon,
    "low JPEG": low_jpeg,
    "grey": grey,
    "dithered": dithered,
    "blurred": blurred,
    "sharpened": sharpened,
    "negative": negative,
    "pixel art": pixel_art,
    "stripes": stripes,
    "washed out": washed_out,
}
