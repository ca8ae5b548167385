"""Optional dependencies, imported where they are used."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType


def need(extra: str, *modules: str) -> list[ModuleType]:
    """Import `modules`, which the extra called `extra` installs.

    Raises: ModuleNotFoundError that says which command installs them.
    """
    try:
        return [importlib.import_module(module) for module in modules]
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{error.name} is not installed; run: pip install 'srlvae[{extra}]'") from error


def folder_of(package: ModuleType) -> Path:
    """Where the files of an installed package lie."""
    assert package.__file__
    return Path(package.__file__).parent
