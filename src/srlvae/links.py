"""Links that lead out of a folder. What was downloaded may link to private files; only what was given is read and written."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from srlvae.errors import InputError

_followed = False
# Folders that this process writes to, as they were given.
_kept: list[str] = []
WHY = "a link that leads out of the folder; --follow-links lets it in"


def set_follow_links(follow: bool) -> None:
    """Let links that lead out of the folders that are given be followed in this process. For commands alone."""
    global _followed
    _followed = follow


def is_below(path: Path | str, root: Path | str) -> bool:
    """Whether `path` lies in the folder `root` when all links, also those on the way there, are followed."""
    real, above = os.path.realpath(path), os.path.realpath(root)
    return real == above or real.startswith(above.rstrip(os.sep) + os.sep)


def leads_out(path: Path | str, root: Path | str) -> bool:
    """Whether `path`, which was found in the folder `root`, is to be left out as it leads elsewhere."""
    return not _followed and not is_below(path, root)


@contextlib.contextmanager
def kept_within(folder: Path) -> Iterator[None]:
    """Let `check_within` refuse, for as long as this lasts, what leads out of `folder`."""
    _kept.append(os.path.abspath(folder))
    try:
        yield
    finally:
        _kept.remove(os.path.abspath(folder))


def check_within(path: Path) -> None:
    """Raise InputError for a path in an output folder in use that leads out of there by a link, which somebody put there."""
    given = os.path.abspath(path)
    for root in _kept:
        if given.startswith(root.rstrip(os.sep) + os.sep) and leads_out(given, root):
            raise InputError(f"{path} leads out of {root} by a link in there; take it away, or let it in with --follow-links")
