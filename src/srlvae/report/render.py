"""Fills templates. Each page is a single file. Needs the extra `report`."""

from __future__ import annotations

import base64
import io
from pathlib import Path

from PIL import Image

from srlvae.errors import InputError
from srlvae.files import write_text
from srlvae.images import open_rgb
from srlvae.links import is_below

TEMPLATES = Path(__file__).with_name("templates")


def write_page(path: Path, template: str, **parts: object) -> Path:
    """Fill the template called `template` with `parts`, write the page to `path`, and return the path."""
    import jinja2

    pages = jinja2.Environment(loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined)
    text = pages.get_template(f"{template}.html").render(**parts)
    write_text(path, text)
    return path


def inline(data: bytes, kind: str = "png") -> str:
    """A picture's bytes as a data URL, so that the page needs no other file."""
    return f"data:image/{kind};base64," + base64.b64encode(data).decode()


def inline_jpeg(image: Image.Image) -> str:
    """A picture as a data URL, in JPEG. Pages with many pictures would take tens of megabytes in PNG."""
    data = io.BytesIO()
    image.convert("RGB").save(data, "jpeg", quality=90, subsampling=0)
    return inline(data.getvalue(), "jpeg")


def inline_sheet(path: Path, folder: Path) -> str:
    """The contact sheet in a file of a run's folder, as a data URL. Raises InputError as `within` does."""
    return inline_jpeg(open_rgb(within(path, folder)))


def within(path: Path, folder: Path) -> Path:
    """`path`, a file of a run's folder.

    Raises InputError for a file that lies elsewhere when links are followed: whoever made the folder would choose which
    picture of this machine is on the page.
    """
    if not is_below(path, folder):
        raise InputError(f"{path} leads out of {folder}, so it is not shown; remove it")
    return path
