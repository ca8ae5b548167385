"""What a file carries beside its pixels: EXIF, XMP and text, read from one picture and written into another."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from PIL import ExifTags, Image
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
# Both forms in which XMP has an orientation, which has been applied to the pixels.
TURNED = re.compile(rb'tiff:Orientation="[0-9]"|<tiff:Orientation>[0-9]</tiff:Orientation>')


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


def read_carried(image: Image.Image) -> Carried:
    """Read what `image`, as it was opened, carries beside its pixels. Raises whatever broken EXIF raises."""
    xmp = image.info.get("xmp") or image.info.get(XMP) or b""
    xmp = TURNED.sub(b"", xmp.encode() if isinstance(xmp, str) else bytes(xmp))
    # Programs keep EXIF as a text of that name, too, with an orientation that has been applied.
    texts = {key: str(text) for key, text in getattr(image, "text", {}).items() if key != XMP and not key.startswith("Raw ")}
    if isinstance(comment := image.info.get("comment"), bytes):
        texts.setdefault("Comment", comment.decode("utf-8", "replace"))
    return Carried(_exif(image), xmp, {key: text for key, text in texts.items() if 0 < len(key) < 80})


def _exif(image: Image.Image) -> bytes:
    read, kept = image.getexif(), Image.Exif()
    for tag in KEPT & read.keys():
        # The bytes as they were: Pillow reads texts as Latin-1 and writes ASCII alone.
        kept[tag] = read[tag].encode("latin-1", "replace") if isinstance(read[tag], str) else read[tag]
    if camera := {tag: value for tag, value in read.get_ifd(Ifd.Exif).items() if tag not in STALE}:
        kept[Ifd.Exif] = camera
    if place := dict(read.get_ifd(Ifd.GPSInfo)):
        kept[Ifd.GPSInfo] = place
    return kept.tobytes() if len(kept) else b""
