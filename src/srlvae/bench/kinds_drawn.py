"""Clean pictures that are no photographs: prints, drawings, text."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from srlvae.bench.kinds_shared import GREY, Draw, Picture, array, blurred, greyed, pil

BAYER = np.array([[0, 8, 2, 10], [12, 4, 14, 6], [3, 11, 1, 9], [15, 7, 13, 5]])
WORDS = "of light and every one picture was made by hand in the year when nothing else could be seen from afar".split()


def halftone(x: Picture, draw: Draw) -> Picture:
    """Dots of ink on a turned grid, larger where it is darker: black, or a grid for each of three colours."""
    cell, angle = draw.uniform(2.5, 8), draw.uniform(0, np.pi / 2)
    soft, grey = draw.uniform(4, 30), draw.random() < 0.6
    rows, columns = np.mgrid[: x.shape[0], : x.shape[1]]
    found = greyed(x) if grey else x.copy()
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
        return np.floor((greyed(x) if draw.random() < 0.5 else x) * steps + pattern) / steps
    if draw.random() < 0.5:
        return array(pil(x).convert("1"))
    return array(pil(x).quantize(int(draw.integers(4, 32)), dither=Image.Dither.FLOYDSTEINBERG))


def text(x: Picture, draw: Draw) -> Picture:
    """Lines of words on plain paper, dark on light or the other way round."""
    size, paper = int(draw.integers(8, 28)), draw.uniform(0.85, 1, 3)
    ink = draw.uniform(0, 0.3, 3)
    paper, ink = (paper, ink) if draw.random() < 0.75 else (ink, paper)
    image = pil(np.broadcast_to(paper, x.shape))
    pen, font, colour = ImageDraw.Draw(image), ImageFont.load_default(size), tuple(int(255 * part) for part in ink)
    left = int(draw.integers(0, 12))
    for top in range(int(draw.integers(0, 12)), x.shape[0], int(size * draw.uniform(1.1, 1.7))):
        pen.text((left, top), " ".join(draw.choice(WORDS, 3 + x.shape[1] // size)), fill=colour, font=font)
    return array(image)


def screenshot(x: Picture, draw: Draw) -> Picture:
    """A window: a bar, boxes of plain colours, small words, and at times a picture in it."""
    image = pil(np.broadcast_to(draw.choice([0.12, 0.95, 1.0]) + draw.uniform(-0.05, 0.05, 3), x.shape))
    pen, height, width = ImageDraw.Draw(image), x.shape[0], x.shape[1]
    for _ in range(int(draw.integers(3, 10))):
        left, top = int(draw.integers(0, width)), int(draw.integers(0, height))
        corner = (left + int(draw.integers(8, width // 2)), top + int(draw.integers(4, height // 3)))
        colours = [tuple(int(v) for v in draw.integers(0, 256, 3)) for _ in range(2)]
        pen.rectangle((left, top, *corner), fill=colours[0], outline=colours[1] if draw.random() < 0.5 else None)
        word, size = " ".join(draw.choice(WORDS, 2)), int(draw.integers(7, 14))
        pen.text((left + 2, top + 1), word, fill=colours[1], font=ImageFont.load_default(size))
    if draw.random() < 0.4:
        image.paste(pil(x).resize((width // 2, height // 2)), (int(draw.integers(0, width // 2)), height // 4))
    return array(image)


def sketch(x: Picture, draw: Draw) -> Picture:
    """A pencil's: the grey picture divided by its blurred negative's negative."""
    grey = greyed(x)
    return ((grey + 0.02) / (blurred(grey, draw.uniform(1.5, 6)) + 0.02)).clip(0, 1) ** draw.uniform(1, 4)


def line_drawing(x: Picture, draw: Draw) -> Picture:
    """Black lines on white where a blurred picture is steep."""
    smooth = blurred(x @ GREY[:, None], draw.uniform(0.7, 2))[..., 0]
    steep = np.hypot(*np.gradient(smooth))
    lines = steep > np.quantile(steep, draw.uniform(0.8, 0.95))
    lines = np.repeat((1.0 - lines)[..., None], 3, 2)
    return lines if draw.random() < 0.5 else blurred(lines, 0.5)


def cartoon(x: Picture, draw: Draw) -> Picture:
    """Flat areas of few tones, with dark outlines."""
    smooth, tones = array(pil(x).filter(ImageFilter.ModeFilter(int(draw.choice([5, 7, 9]))))), draw.integers(3, 7)
    flat = np.round(smooth * tones) / tones
    steep = np.hypot(*np.gradient(blurred(smooth @ GREY[:, None], 1.0)[..., 0]))
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


def pixel_art(x: Picture, draw: Draw) -> Picture:
    """Squares of 2 to 6 pixels, of few tones."""
    side, tones = int(draw.integers(2, 7)), int(draw.integers(3, 16))
    small = pil(x).resize((max(1, x.shape[1] // side), max(1, x.shape[0] // side)), Image.Resampling.BOX)
    return np.round(array(small.resize(x.shape[1::-1], Image.Resampling.NEAREST)) * tones) / tones
