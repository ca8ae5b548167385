"""Links that lead out of a folder. What was downloaded may link to private files; only what was given is read."""

from __future__ import annotations

import os
from pathlib import Path

_followed = False
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
