"""Optional dependencies, imported only where they are used."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType


def need(extra: str, *modules: str) -> list[ModuleType]:
    """Import `modules`, which belong to the optional dependencies called `extra`.

    Raises ModuleNotFoundError that says which command installs them.
    """
    try:
        return [importlib.import_module(module) for module in modules]
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{error.name} is not installed; run: pip install 'srlvae[{extra}]'") from error


def folder_of(package: ModuleType) -> Path:
    """The folder of an installed package."""
    assert package.__file__
    return Path(package.__file__).parent
