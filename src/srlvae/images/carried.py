"""What a file carries beside its pixels: EXIF, XMP and text, read from one picture and written into another."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from PIL import ExifTags, Image, IptcImagePlugin
from PIL.PngImagePlugin import PngInfo

Tag, Ifd = ExifTags.Base, ExifTags.IFD
# Tags of what a picture shows and whose it is. The others tell how the pixels lie in the file that was read.
KEPT = {
    *(Tag.ImageDescription, Tag.Make, Tag.Model, Tag.Software, Tag.DateTime, Tag.Artist, Tag.HostComputer, Tag.Copyright),
    *(Tag.XPTitle, Tag.XPComment, Tag.XPAuthor, Tag.XPKeywords, Tag.XPSubject, Tag.Rating),
}
# Of the camera's own part: what is no longer so after a conversion.
STALE = {Tag.ColorSpace, Tag.ExifImageWidth, Tag.ExifImageHeight, Tag.ExifInteroperabilityOffset}
XMP = "XML:com.adobe.xmp"
# Bytes of it that are carried over: Pillow reads no PNG with more than 64 MB of texts.
MOST_CARRIED = 2**24
# Both forms in which XMP has an orientation, as Pillow reads them. It has been applied to the pixels.
TURNED, UPRIGHT = re.compile(rb'(tiff:Orientation(?:="|>))[0-9]'), rb"\g<1>1"
# Where IPTC says whose a picture is and what it shows, under the keywords that PNG has for that.
IPTC = {(2, 5): "Title", (2, 80): "Author", (2, 116): "Copyright", (2, 120): "Description"}


@dataclass(frozen=True)
class Carried:
    """What goes with a picture into another file: EXIF without orientation and thumbnail, XMP, and texts by keyword."""

    exif: bytes = b""
    xmp: bytes = b""
    texts: dict[str, str] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """How many bytes it takes, about."""
        return len(self.exif) + len(self.xmp) + sum(len(key) + len(text) for key, text in self.texts.items())

    def options(self) -> dict[str, Any]:
        """The options with which Pillow writes all that into a PNG."""
        info = PngInfo()
        for keyword, text in self.texts.items():
            info.add_itxt(keyword, text)
        if self.xmp:
            info.add_itxt(XMP, self.xmp.decode("utf-8", "replace"))
        return {"pnginfo": info} | ({"exif": self.exif} if self.exif else {})


def read_carried(image: Any) -> Carried:
    """Read what `image`, as it was opened, carries beside its pixels. Raises whatever broken EXIF raises."""
    xmp = image.info.get("xmp") or image.info.get(XMP) or b""
    xmp = TURNED.sub(UPRIGHT, xmp.encode() if isinstance(xmp, str) else bytes(xmp))
    # Programs keep EXIF as a text of that name, too, with an orientation that has been applied.
    texts = {key: str(text) for key, text in getattr(image, "text", {}).items() if key != XMP and not key.startswith("Raw ")}
    if isinstance(comment := image.info.get("comment"), bytes):
        texts.setdefault("Comment", comment.decode("utf-8", "replace"))
    for key, value in (IptcImagePlugin.getiptcinfo(image) or {}).items():
        if key in IPTC:
            said = value if isinstance(value, list) else [value]
            texts.setdefault(IPTC[key], "; ".join(_text(part) for part in said))
    return Carried(_exif(image), xmp, {key: text for key, text in texts.items() if 0 < len(key) < 80})


def exif_before_pixels(image: Image.Image) -> Image.Exif:
    """The EXIF data of a PNG that stand before its pixels. Raises whatever broken EXIF raises."""
    exif = Image.Exif()
    exif.load(image.info.get("exif") or b"")
    return exif


def _text(part: bytes) -> str:
    """A text of IPTC, which is UTF-8 in files of today and Latin-1 in old ones."""
    try:
        return part.decode()
    except UnicodeDecodeError:
        return part.decode("latin-1")


def _exif(image: Image.Image) -> bytes:
    read, kept = image.getexif(), Image.Exif()
    for tag in KEPT & read.keys():
        kept[tag] = _as_it_was(read[tag])
    if camera := {tag: _as_it_was(value) for tag, value in read.get_ifd(Ifd.Exif).items() if tag not in STALE}:
        kept[Ifd.Exif] = camera
    if place := {tag: _as_it_was(value) for tag, value in read.get_ifd(Ifd.GPSInfo).items()}:
        kept[Ifd.GPSInfo] = place
    return kept.tobytes() if len(kept) else b""


def _as_it_was(value: Any) -> Any:
    """A value of EXIF, texts as the bytes of the file: Pillow reads them as Latin-1 and writes ASCII alone."""
    return value.encode("latin-1", "replace") if isinstance(value, str) else value
