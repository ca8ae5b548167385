"""Templates filled in, each a page in one file. Needs the extra `report`."""

from __future__ import annotations

import base64
import io
from pathlib import Path

from PIL import Image

from srlvae.extras import need
from srlvae.files import write_text

TEMPLATES = Path(__file__).with_name("templates")


def write_page(path: Path, template: str, **parts: object) -> Path:
    """Fill the template called `template` with `parts`, write the page and return its path."""
    (jinja2,) = need("report", "jinja2")
    pages = jinja2.Environment(loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined)
    text = pages.get_template(f"{template}.html").render(**parts)
    write_text(path, text)
    return path


def inline(data: bytes, kind: str = "png") -> str:
    """A picture's bytes as an address that needs no file."""
    return f"data:image/{kind};base64," + base64.b64encode(data).decode()


def inline_jpeg(image: Image.Image) -> str:
    """A picture as an address, in JPEG: pages with many of them would take tens of megabytes as PNG."""
    data = io.BytesIO()
    image.convert("RGB").save(data, "jpeg", quality=90, subsampling=0)
    return inline(data.getvalue(), "jpeg")


def inline_sheet(path: Path) -> str:
    with Image.open(path) as sheet:
        return inline_jpeg(sheet)
