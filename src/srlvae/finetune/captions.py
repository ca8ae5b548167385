"""Reading the captions of a folder of images, in the forms in which people keep them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from srlvae.errors import InputError, UnreadableError
from srlvae.finetune.tables import TABLES, captions_of, find_tables, read_text
from srlvae.images import LeftOut, find_images, read_picture
from srlvae.links import WHY, leads_out

# Files beside an image, of its name.
BESIDE = (".txt", ".caption")


@dataclass(frozen=True)
class Captions:
    """Where captions are: in a table or, if None, the folder's own; in a column or, if None, in `text` or `caption`."""

    table: Path | None = None
    column: str | None = None


def read_captions(
    images: Path,
    captions: Path | None = None,
    prompt: str | None = None,
    *,
    column: str | None = None,
    left_out: LeftOut | None = None,
) -> tuple[list[Path], list[str]]:
    """List the images below a folder, and the caption of each.

    With `prompt`, all images have that caption. Otherwise captions come from the file `captions`, or from a metadata.jsonl,
    metadata.csv or meta_cap.json in the folder and in folders below it, as `captions_of` reads them; an image that is not in
    there has a .txt or .caption file beside it. `column` names the column of the tables that has the captions.

    An image without a caption that cannot be read is added to `left_out`. Raises InputError that names the first other image
    without a caption and says how many there are, or the table that cannot be read.
    """
    if prompt is not None and captions is not None:
        raise InputError("give one caption for all images or a file of captions, not both")
    if prompt is not None and column is not None:
        raise InputError("no column is looked at where one caption is for all images; leave out --caption-column or --prompt")
    left_out = left_out or LeftOut()
    paths = find_images(images, left_out)
    if prompt is not None:
        return paths, [prompt] * len(paths)
    root = images if images.is_dir() else images.parent
    said: dict[Path, str] = {}
    for table in [captions] if captions else [_within(table, root) for table in find_tables(root)]:
        said |= captions_of(table, paths, root, column)
    for path in paths:
        if path not in said and (text := _beside(path, root)) is not None:
            said[path] = text
    missing = [path for path in paths if path not in said]
    for path in missing:
        if _readable(path, left_out):
            raise InputError(_without(path, len(missing), len(paths), captions))
    paths = [path for path in paths if path in said]
    return paths, [said[path] for path in paths]


def _beside(path: Path, root: Path) -> str | None:
    """The text in the file beside an image, or None if there is no such file."""
    beside = (path.with_suffix(suffix) for suffix in BESIDE)
    # Not Path.is_file: it raises for a name that is too long.
    return next((read_text(_within(file, root)).strip() for file in beside if os.path.isfile(file)), None)


def _within(file: Path, root: Path) -> Path:
    """`file`. Raises InputError for a link that leads out of `root`, as what it leads to would be learnt and recorded."""
    if file.is_symlink() and leads_out(file, root):
        raise InputError(f"cannot read captions from {file}: {WHY}")
    return file


def _readable(path: Path, left_out: LeftOut) -> bool:
    try:
        read_picture(path)
        return True
    except UnreadableError as error:
        left_out.add(path, error.reason)
        return False


def _without(path: Path, missing: int, count: int, table: Path | None) -> str:
    where = f"{table} has no line for it" if table else f"it is in no {', '.join(TABLES)}"
    return (
        f"{path} has no caption: {where}, and there is no {' or '.join(BESIDE)} beside it ({missing} of {count} images have "
        "none); give --captions or --prompt"
    )
