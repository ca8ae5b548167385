"""Models that come with the package: folders beside this file, in diffusers' format, each with its model card."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent


def bundled(name: str) -> Path | None:
    """The folder of the bundled model called `name`, if there is one."""
    return FOLDER / name if name in names() else None


def names() -> list[str]:
    return sorted(p.name for p in FOLDER.iterdir() if (p / "README.md").is_file())
