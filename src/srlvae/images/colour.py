"""From the colours of a file to 8-bit sRGB, with the alpha channel apart."""

from __future__ import annotations

import functools
import io
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageCms

from srlvae.files import shown
from srlvae.images.levels import Key, alpha_of, to_8_bits

# Levels by which a colour may move under a profile that is taken for sRGB: several such profiles differ by roundings.
ROUNDINGS = 2
# The modes of pictures whose profile is for that kind of colour.
SPACES = {"RGB ": "RGB", "GRAY": "L", "CMYK": "CMYK"}
# What a PNG says of sRGB: its gamma, and x and y of white, red, green and blue. How near these have to be.
GAMMA, PRIMARIES, NEAR = 1 / 2.2, (0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06), 0.01
# EXIF's tag of the colour space that pixels are for, and a value of Base.ColorSpace for Adobe RGB that is in no standard.
INDEX, ADOBE = 1, 2


def to_srgb(image: Image.Image, key: Key | None = None) -> tuple[Image.Image, Image.Image | None, list[str], list[str]]:
    """Convert a picture to 8-bit sRGB. key: the level or colour that is transparent, by `transparent_key`.

    Returns the picture in mode RGB, not laid on anything; its alpha channel in mode L, or None if it has none; remarks on what
    was converted; and remarks on what was not. Raises ValueError for 32-bit pixels.
    """
    profile, remarks = image.info.get("icc_profile"), []
    if image.mode == "F":  # Pillow would cut off the fractions, and floats have no agreed white
        raise ValueError("32-bit float pixels; save it with 8 or 16 bits")
    clear = None
    if key is not None:
        clear = alpha_of(image, key)
        image.info.pop("transparency", None)
    if image.mode.startswith("I"):
        image, remark = to_8_bits(image)
        remarks.append(remark)
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


def other_colours(image: Image.Image) -> list[str]:
    """A remark where a file without a colour profile says in another way that its colours are not sRGB."""
    if image.info.get("icc_profile") or "srgb" in image.info:
        return []
    said = []
    gamma, primaries = image.info.get("gamma", GAMMA), image.info.get("chromaticity", PRIMARIES)
    if abs(gamma - GAMMA) > NEAR:
        said.append(f"gamma {gamma:.3g}")
    if len(primaries) != len(PRIMARIES) or max(abs(a - b) for a, b in zip(primaries, PRIMARIES, strict=True)) > NEAR:
        said.append("primaries of another display")
    if image.mode == "CMYK":
        said.append("inks of an unknown press")
    if _is_adobe(image):
        said.append("Adobe RGB")
    return [f"its colour space ({', '.join(said)}), which is given without a profile; read as sRGB"] if said else []


def _is_adobe(image: Image.Image) -> bool:
    """Whether EXIF says that colours are Adobe RGB, as cameras do: they write no profile."""
    try:
        camera = image.getexif().get_ifd(ExifTags.IFD.Exif)
        marked = ExifTags.IFD.Interop in camera and image.getexif().get_ifd(ExifTags.IFD.Interop).get(INDEX) == "R03"
    except Exception:  # broken EXIF data are told of elsewhere
        return False
    return marked or camera.get(ExifTags.Base.ColorSpace) == ADOBE


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
