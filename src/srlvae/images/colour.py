"""From the colours of a file to 8-bit sRGB, with the alpha channel apart."""

from __future__ import annotations

import functools
import io
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageCms

from srlvae.files import shown

# Levels by which a colour may move under a profile that is taken for sRGB: several such profiles differ by roundings.
ROUNDINGS = 2
# The modes of pictures whose profile is for that kind of colour.
SPACES = {"RGB ": "RGB", "GRAY": "L", "CMYK": "CMYK"}


def to_srgb(image: Image.Image) -> tuple[Image.Image, Image.Image | None, list[str], list[str]]:
    """Convert a picture to 8-bit sRGB.

    Returns the picture in mode RGB, not laid on anything; its alpha channel in mode L, or None if it has none; remarks on what
    was converted; and remarks on what was not. Raises ValueError for 32-bit pixels.
    """
    profile, remarks = image.info.get("icc_profile"), []
    if image.mode == "F":  # Pillow would cut off the fractions, and floats have no agreed white
        raise ValueError("32-bit float pixels; save it with 8 or 16 bits")
    if image.mode == "I" and _has_32_bits(image):  # nothing says which of their levels is white
        raise ValueError("32-bit grey pixels; save it with 8 or 16 bits")
    level = image.info.get("transparency") if image.mode.startswith("I") else None
    clear = None if level is None else Image.fromarray(np.where(np.asarray(image) == level, 0, 255).astype(np.uint8))
    if image.mode.startswith("I"):  # 16-bit grey; Pillow's own conversion would clip it to white
        image = Image.fromarray((np.asarray(image).clip(0, 65535) / 257).round().astype(np.uint8))
        remarks.append("16 bits rounded to 8")
    image, alpha = _without_alpha(image)
    alpha = clear or alpha
    if not profile:
        return image.convert("RGB"), alpha, remarks, []
    try:
        converted, name = _through_profile(image, profile)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError) as error:
        said = f"its colour profile, which cannot be used ({shown(error):.200}); read as sRGB"
        return image.convert("RGB"), alpha, remarks, [said]
    return converted, alpha, remarks + ([f"colours converted from {name} to sRGB"] if name else []), []


def _has_32_bits(image: Image.Image) -> bool:
    """Whether a picture in mode I, also Pillow's for 16 bits, has more: by its file if that is a TIFF, or by its levels."""
    bits = getattr(image, "tag_v2", {}).get(ExifTags.Base.BitsPerSample, (16,))
    levels = np.asarray(image)
    return max(bits) > 16 or bool(((levels < 0) | (levels > 65535)).any())


def on_white(image: Image.Image, alpha: Image.Image | None) -> Image.Image:
    """Lay an RGB picture on white by its alpha channel."""
    if alpha is None:
        return image
    image = image.convert("RGBA")
    image.putalpha(alpha)
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def _without_alpha(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """The picture without its transparency, in a mode that profiles are for, and the alpha channel."""
    alpha = None
    if image.has_transparency_data:
        if image.mode in ("LA", "La"):
            image = image.convert("LA")
            return image.getchannel("L"), image.getchannel("A")
        rgba = image.convert("RGBA")
        image, alpha = rgba.convert("RGB"), rgba.getchannel("A")
    if image.mode == "1":
        image = image.convert("L")
    return (image if image.mode in ("L", "RGB", "CMYK", "LAB") else image.convert("RGB")), alpha


def _through_profile(image: Image.Image, profile: bytes) -> tuple[Image.Image, str | None]:
    """The picture in sRGB, and the name of its profile if that moved any colour."""
    opened: Any = ImageCms.getOpenProfile(io.BytesIO(profile))
    space = opened.profile.xcolor_space
    if SPACES.get(space) != image.mode:
        if space != "RGB " or image.mode != "L":
            raise ValueError(f"it is for {space.strip()} and the pixels are {image.mode}")
        image = image.convert("RGB")
    transform = _transform(profile, image.mode)
    if transform is None:
        return image.convert("RGB"), None
    converted = ImageCms.applyTransform(image, transform)
    assert converted is not None
    return converted, f"{shown(ImageCms.getProfileDescription(opened).strip()) or 'an unnamed profile':.80}"


@functools.lru_cache(16)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """From a profile to sRGB; None if that moves no colour of an RGB or grey picture by more than roundings."""
    source = ImageCms.getOpenProfile(io.BytesIO(profile))
    transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
    if mode == "CMYK":
        return transform
    levels = np.linspace(0, 255, 9).round().astype(np.uint8)
    colours = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(27, 27, 3)
    probe = Image.fromarray(colours).convert(mode)
    moved = ImageCms.applyTransform(probe, transform)
    assert moved is not None
    difference = np.abs(np.asarray(moved).astype(int) - np.asarray(probe.convert("RGB")))
    return transform if difference.max() > ROUNDINGS else None
