"""Reading the captions of a folder of images, in the forms in which people keep them."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path, PurePosixPath

from srlvae.errors import InputError
from srlvae.images import find_images

METADATA = ("metadata.jsonl", "metadata.csv")


def read_captions(images: Path, captions: Path | None = None, prompt: str | None = None) -> tuple[list[Path], list[str]]:
    """List the images below a folder, and the caption of each.

    With `prompt`, all images have that caption. Otherwise captions come from the file `captions`, or from metadata.jsonl or
    metadata.csv in the folder, with the columns `file_name` (relative to the folder) and `text` as in Hugging Face's
    imagefolder. If there is no such file, each image has a .txt file beside it.

    Raises InputError that names the first image without a caption, or the file that cannot be read.
    """
    if prompt is not None and captions is not None:
        raise InputError("give one caption for all images or a file of captions, not both")
    paths = find_images(images)
    if prompt is not None:
        return paths, [prompt] * len(paths)
    found = [images / name for name in METADATA if (images / name).is_file()]
    table = captions or (found[0] if found else None)
    if table is not None:
        said = _read_table(table)
        root = images if images.is_dir() else images.parent
        texts = [said.get(path.relative_to(root).as_posix()) for path in paths]
    else:
        beside = [path.with_suffix(".txt") for path in paths]
        texts = [_read_text(file).strip() if file.is_file() else None for file in beside]
    missing = [path for path, text in zip(paths, texts, strict=True) if text is None]
    if missing:
        where = f"{table} has no line for it" if table else f"no {METADATA[0]} in {images} and no .txt beside it"
        raise InputError(f"{missing[0]} has no caption: {where}; give --captions or --prompt")
    return paths, [text for text in texts if text is not None]


def _read_table(path: Path) -> dict[str, str]:
    text = _read_text(path)
    try:
        if path.suffix.lower() == ".csv":
            rows = list(csv.DictReader(io.StringIO(text, newline="")))
        else:
            # Not splitlines: captions may have separators that JSON leaves as they are.
            rows = [json.loads(line) for line in text.split("\n") if line.strip()]
        said = {PurePosixPath(row["file_name"]).as_posix(): row["text"] for row in rows}
    except (ValueError, KeyError, TypeError, csv.Error) as error:
        raise InputError(f"cannot read captions from {path}, lines with file_name and text: {error!r}") from error
    if wrong := [name for name, caption in said.items() if not isinstance(caption, str)]:
        raise InputError(f"the caption of {wrong[0]} in {path} is no text")
    return said


def _read_text(path: Path) -> str:
    """Read UTF-8, with or without the byte order mark that spreadsheets write."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read captions from {path}, text in UTF-8: {error}") from error
