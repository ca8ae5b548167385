"""Photographs to try the page on. They come with scikit-image, and each is in the public domain or CC0."""

from __future__ import annotations

from pathlib import Path

from srlvae.extras import folder_of
from srlvae.quickstart import TEST, TILE_TEST, TRAIN, cut_photographs

# The cat Chelsea (CC0, Stefan van der Walt), the astronaut Eileen Collins (public domain, NASA), a cup of coffee (CC0, Rachel
# Michetti), the launch of a rocket (public domain, SpaceX).
PHOTOGRAPHS = ("chelsea.png", "astronaut.png", "coffee.png", "rocket.jpg")


def photographs() -> list[Path]:
    """The photographs that a click puts on the page."""
    import skimage

    return [folder_of(skimage) / "data" / name for name in PHOTOGRAPHS]


def clean_squares(folder: Path) -> Path:
    """Cut the photographs of quickstart's training into squares below `folder`, for a scan to be calibrated on."""
    cut_photographs(TRAIN, folder, TILE_TEST)
    return folder


def other_squares(folder: Path) -> Path:
    """Cut the photographs of quickstart's test into squares below `folder`, to be scanned."""
    cut_photographs(TEST, folder, TILE_TEST)
    return folder


def about_clean_squares() -> str:
    """What the squares of `clean_squares` are, in words."""
    return f"squares of {TILE_TEST} pixels from {len(TRAIN)} photographs that come with scikit-image"
