"""Which images a command takes, and under which names below its output folder it writes what it makes of them."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from srlvae.errors import InputError
from srlvae.images.left_out import LeftOut
from srlvae.images.walk import NothingError, find_images
from srlvae.images.write import SHEET

# Bytes of the longest name in nearly all file systems, and of the longest suffix that is put behind it.
LONGEST, SUFFIX = 255, len(".json")


@dataclass(frozen=True)
class Source:
    """An image to be worked on.

    - path: the file.
    - name: its path below the folder that was given, without suffix; of a file that was given itself, its name. It seeds the
      image's random draws, so that they do not depend on the files beside it.
    - target: the path below the output folder of what is made of it, without suffix.
    """

    path: Path
    name: str
    target: str


def find_sources(given: Sequence[Path], out: Path, left_out: LeftOut | None = None) -> list[Source]:
    """List the images in `given` (files or folders) and where below `out` each is written, in the sub-folders it lies in.

    Images of one folder that differ in their suffix alone are written under their whole names, as `a.jpg.png` and `a.webp.png`.
    Names that are too long are cut and end in a digest. Where `out` lies below a given folder, the images that an earlier run
    wrote to `out` are left out. Of several folders those without images are added to `left_out`.

    Raises InputError if an image given itself lies in `out`, if an image has the name of the contact sheet, if two images would
    be written to the same file, or if there is no image.
    """
    left_out = left_out or LeftOut()
    roots = list(dict.fromkeys(map(Path, given)))
    found = [(path, root) for root in roots for path in _images(root, roots, left_out) if not _made_by_us(path, root, out)]
    names = [_name(path, root) for path, root in found]
    if not found and not left_out.files:
        raise InputError(f"the only images below {', '.join(map(str, given))} are those of the output folder {out}")
    shared = Counter((path.parent, path.stem) for path in {path for path, _ in found})
    sources: dict[str, Source] = {}
    for (path, _), name in zip(found, names, strict=True):
        target = _fitting(name + path.suffix if shared[path.parent, path.stem] > 1 else name)
        if target == SHEET.removesuffix(".png"):
            raise InputError(f"{path} would be overwritten by the contact sheet {SHEET}; rename it")
        if target in sources:
            way = "rename one" if sources[target].path.parent == path.parent else "give the folder above both"
            raise InputError(
                f"{sources[target].path} and {path} would both be written as {target}.png; {way}, or run them separately"
            )
        sources[target] = Source(path, name, target)
    return list(sources.values())


def _images(root: Path, roots: Sequence[Path], left_out: LeftOut) -> list[Path]:
    """The images of one of several `roots`, where an empty folder among others does not end the run."""
    try:
        return find_images(root, left_out)
    except NothingError as error:
        if len(roots) == 1:
            raise
        left_out.add(root, str(error))
        return []


def _made_by_us(path: Path, root: Path, out: Path) -> bool:
    """Whether an image lies in `out`. Raises InputError if it does and was given itself, or with a folder in `out`."""
    lies_in = _real(out) in _real(path).parents
    if lies_in and _real(out) not in _real(root).parents:
        return True
    if lies_in:
        raise InputError(f"{path} lies in the output folder {out}; give another --out")
    return False


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _name(path: Path, root: Path) -> str:
    return (path.relative_to(root) if path != root else Path(path.name)).with_suffix("").as_posix()


def _fitting(target: str) -> str:
    """`target` with a last part that is short enough for a suffix behind it."""
    folder, _, last = target.rpartition("/")
    room = LONGEST - SUFFIX
    if len(os.fsencode(last)) <= room:
        return target
    end = "-" + hashlib.sha256(os.fsencode(last)).hexdigest()[:8]
    # By characters, so that none is cut in two.
    while len(os.fsencode(last + end)) > room:
        last = last[:-1]
    return f"{folder}/{last}{end}" if folder else last + end
